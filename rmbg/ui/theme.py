"""Colors and fonts of the page. All fonts are system fonts, so the page loads nothing from other servers."""

import gradio as gr

FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


#: Borders of controls, light and dark: at least 3:1 on the fields and on the blocks around them (WCAG 1.4.11).
BORDER, BORDER_DARK = "#7a8594", "#76838f"

#: Accent of selected controls on light and on dark backgrounds.
ACCENT, ACCENT_DARK = "#0f766e", "#2dd4bf"


def theme() -> gr.themes.Base:
    """Theme with neutral grays and a teal accent, for light and dark mode."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        text_size=gr.themes.sizes.text_md,
        font=FONTS,
        font_mono=MONO,
    ).set(
        body_background_fill="#f6f7f9",
        body_background_fill_dark="#0f1419",
        body_text_color="#1b2430",
        body_text_color_dark="#e6eaf0",
        body_text_color_subdued="#566273",
        body_text_color_subdued_dark="#a3aebd",
        block_background_fill="#ffffff",
        block_background_fill_dark="#181f27",
        block_border_color="#dfe4ea",
        block_border_color_dark="#2b3540",
        block_label_text_color="#445164",
        block_label_text_color_dark="#b4bfcd",
        block_title_text_color="#2a3544",
        block_title_text_color_dark="#d5dce6",
        block_info_text_color="#566273",
        block_info_text_color_dark="#a3aebd",
        input_background_fill="#ffffff",
        input_background_fill_dark="#11171d",
        input_border_width="1px",
        input_border_width_dark="1px",
        input_border_color=BORDER,
        input_border_color_dark=BORDER_DARK,
        input_border_color_hover=BORDER,
        input_border_color_hover_dark=BORDER_DARK,
        input_border_color_focus=ACCENT,
        input_border_color_focus_dark=ACCENT_DARK,
        checkbox_border_color=BORDER,
        checkbox_border_color_dark=BORDER_DARK,
        checkbox_border_color_hover=BORDER,
        checkbox_border_color_hover_dark=BORDER_DARK,
        checkbox_border_color_focus=ACCENT,
        checkbox_border_color_focus_dark=ACCENT_DARK,
        checkbox_border_color_selected=ACCENT,
        checkbox_border_color_selected_dark=ACCENT_DARK,
        checkbox_background_color_selected=ACCENT,
        checkbox_background_color_selected_dark=ACCENT,
        checkbox_label_border_color_selected=ACCENT,
        checkbox_label_border_color_selected_dark=ACCENT_DARK,
        slider_color=ACCENT,
        slider_color_dark=ACCENT_DARK,
        input_placeholder_color="#667385",
        input_placeholder_color_dark="#93a0b0",
        button_primary_background_fill=ACCENT,
        button_primary_background_fill_hover="#115e59",
        button_primary_background_fill_dark=ACCENT,
        button_primary_background_fill_hover_dark="#115e59",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        button_secondary_background_fill="#eef1f5",
        button_secondary_background_fill_dark="#26303b",
        button_secondary_text_color="#1b2430",
        button_secondary_text_color_dark="#e6eaf0",
        color_accent=ACCENT,
        link_text_color="#0f6a63",
        link_text_color_dark="#5eead4",
        block_shadow="0 1px 2px rgba(16, 24, 40, 0.05)",
        block_shadow_dark="none",
    )
