"""Colors and fonts of the page. All fonts are system fonts, so the page loads nothing from other servers."""

import gradio as gr

FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]

#: Borders of controls, light and dark: at least 3:1 on the fields and on the blocks around them (WCAG 1.4.11).
BORDER = ("#7a8594", "#76838f")

#: Accent of selected controls on light and on dark backgrounds.
ACCENT = ("#0f766e", "#2dd4bf")

#: Values of the theme's variables in light and in dark mode.
VALUES = {
    "body_background_fill": ("#f6f7f9", "#0f1419"),
    "body_text_color": ("#1b2430", "#e6eaf0"),
    "body_text_color_subdued": ("#566273", "#a3aebd"),
    "block_background_fill": ("#ffffff", "#181f27"),
    "block_border_color": ("#dfe4ea", "#2b3540"),
    "block_label_text_color": ("#445164", "#b4bfcd"),
    "block_title_text_color": ("#2a3544", "#d5dce6"),
    "block_info_text_color": ("#566273", "#a3aebd"),
    "block_shadow": ("0 1px 2px rgba(16, 24, 40, 0.05)", "none"),
    "input_background_fill": ("#ffffff", "#11171d"),
    "input_border_width": ("1px", "1px"),
    "input_placeholder_color": ("#667385", "#93a0b0"),
    **{f"{kind}_border_color{state}": BORDER for kind in ("input", "checkbox") for state in ("", "_hover")},
    **{f"{kind}_border_color_focus": ACCENT for kind in ("input", "checkbox")},
    **dict.fromkeys(("checkbox_border_color_selected", "checkbox_label_border_color_selected", "slider_color"), ACCENT),
    "checkbox_background_color_selected": (ACCENT[0], ACCENT[0]),
    "button_primary_background_fill": (ACCENT[0], ACCENT[0]),
    "button_primary_background_fill_hover": ("#115e59", "#115e59"),
    "button_primary_text_color": ("#ffffff", "#ffffff"),
    "button_secondary_background_fill": ("#eef1f5", "#26303b"),
    "button_secondary_text_color": ("#1b2430", "#e6eaf0"),
    "link_text_color": ("#0f6a63", "#5eead4"),
}


def theme() -> gr.themes.Base:
    """Theme with neutral grays and a teal accent, for light and dark mode."""
    base = gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        text_size=gr.themes.sizes.text_md,
        font=FONTS,
        font_mono=MONO,
    )
    dark = {f"{name}_dark": value for name, (_, value) in VALUES.items()}
    return base.set(color_accent=ACCENT[0], **{name: value for name, (value, _) in VALUES.items()}, **dark)
