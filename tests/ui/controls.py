"""JavaScript that measures the controls of the page: contrast of their borders, size, and focus."""

from __future__ import annotations

#: Visible controls whose border has a contrast below 3:1 with the background around it, as ``[name, contrast]``.
LOW_CONTRAST = """() => {
    const parse = (color) => (color.match(/[\\d.]+/g) || []).map(Number);
    const linear = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const contrast = (a, b) => {
        const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
        return (high + 0.05) / (low + 0.05);
    };
    const behind = (element) => {
        for (let other = element.parentElement; other; other = other.parentElement) {
            const color = parse(getComputedStyle(other).backgroundColor);
            if (color.length === 3 || color[3] === 1) return color;
        }
        return [255, 255, 255];
    };
    const bordered = (element) => {
        for (let other = element, depth = 0; other && depth < 5; other = other.parentElement, depth++) {
            const style = getComputedStyle(other);
            if (parseFloat(style.borderTopWidth) >= 1 && style.borderTopStyle !== "none") return other;
        }
        return null;
    };
    const low = [];
    for (const element of document.querySelectorAll("input:not([type=range]):not([type=file]):not([type=color]), textarea")) {
        if (!element.checkVisibility({ checkVisibilityCSS: true }) || element.closest(".offstage")) continue;
        const swatch = element.closest("label.swatch"); // its input is transparent, and the label has a ring
        const border = swatch ?? bordered(element);
        const style = border && getComputedStyle(border, swatch ? "::after" : null);
        const value = border ? contrast(parse(style.borderTopColor), behind(border)) : 1;
        if (value < 3) low.push([element.closest("[id]").id, element.type, value.toFixed(2)]);
    }
    return low;
}"""

#: Visible dropdowns whose text continues under their arrow.
HIDDEN_TEXT = """() => [...document.querySelectorAll(".secondary-wrap:has(> .icon-wrap) input")]
    .filter((e) => e.checkVisibility({ checkVisibilityCSS: true }))
    .filter((e) => {
        const end = e.getBoundingClientRect().right - parseFloat(getComputedStyle(e).paddingRight);
        return end > e.parentElement.querySelector(":scope > .icon-wrap").getBoundingClientRect().left;
    })
    .map((e) => e.closest("[id]").id)
"""

#: Visible controls smaller than 24 x 24 pixels; links within sentences are exempt (WCAG 2.5.8).
SMALL_TARGETS = """() => [...document.querySelectorAll("button, input:not([type=file]), select, textarea, summary, a")]
    .filter((e) => e.checkVisibility({ checkVisibilityCSS: true }) && !e.closest(".offstage, p, td, .visually-hidden"))
    .map((e) => [e, (e.closest("label, .wrap:has(> .wrap-inner)") || e).getBoundingClientRect()])
    .filter(([, box]) => box.width < 24 || box.height < 24)
    .map(([e, box]) => `${e.tagName} ${e.id} ${e.ariaLabel || e.textContent.trim()} ${box.width} x ${box.height}`)
"""
