"""Components of providers: key field, consent, descriptions, options, selection, and the offer of a second provider."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gradio as gr
from gradio.data_classes import GradioRootModel

from rmbg.billing import api_keys
from rmbg.billing.quote import quote
from rmbg.inference.catalog import MODELS
from rmbg.providers import AUTO, PACKAGED, PROVIDERS, find
from rmbg.providers.base import Option, ProviderInfo, Status
from rmbg.settings import Settings
from rmbg.ui.guard.checks import public_hosts
from rmbg.ui.languages import status_text, t
from rmbg.ui.runs import INSTANT
from rmbg.ui.session import Session
from rmbg.ui.templates import render


class UnstoredText(GradioRootModel):
    """Text that is serialized as an empty string.

    Gradio keeps the serialized last value of every component for the lifetime of a session, and writes it to disk for deep
    links.
    """

    root: str

    def model_dump(self, **kwargs: Any) -> Any:
        return ""


class KeyField(gr.Textbox):
    """``gr.Textbox`` whose value Gradio does not store."""

    is_template = True  # uses the frontend of gr.Textbox
    data_model = UnstoredText

    def preprocess(self, payload: UnstoredText | None) -> str:  # type: ignore[override]
        return "" if payload is None else payload.root


def key_field(elem_id: str = "key", label: str = "Key", **more: Any) -> KeyField:
    """Return a password field whose value is sent with each request, and stored neither in a State nor by the browser."""
    return KeyField(
        label=label,
        type="password",
        max_lines=1,
        elem_id=elem_id,
        html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False),
        **more,
    )


# Buttons that accept or decline the cost of a paid call.


def consent_row(prefix: str) -> tuple[gr.Row, gr.Button, gr.Button]:
    """Create a hidden row with the buttons ``prefix-yes`` and ``prefix-no``; returns row and buttons."""
    with gr.Row(visible=False, equal_height=True) as row:
        yes = gr.Button("Yes, send and pay", variant="primary", elem_id=f"{prefix}-yes")
        no = gr.Button("No", elem_id=f"{prefix}-no")
    return row, yes, no


def restarting_row(prefix: str, session: gr.State, start: gr.Button, message: gr.HTML) -> gr.Row:
    """Create a row whose consent is given for `prefix` and then repeats the click on `start`."""
    row, yes, no = consent_row(prefix)
    accepted = yes.click(partial(_accept, prefix), session, [row, message], **INSTANT)
    accepted.success(None, js=f"() => document.querySelector('#{start.elem_id}')?.click()", **INSTANT)
    no.click(partial(hide, prefix), session, [row, message], **INSTANT)
    return row


def _accept(prefix: str, session: Session) -> tuple[Any, str]:
    session.consent.accept(prefix)
    return gr.update(visible=False), ""


def hide(prefix: str, session: Session, *charged: str) -> tuple[Any, Any]:
    """Discard a pending request for consent; updates that hide the row and clear the message above it.

    A request for exactly the charges of `charged`, the fields ``provider`` of those of the selection, is kept: it belongs to a
    run that was started before the event of this selection was processed.
    """
    if charged and session.consent.pending(prefix, set(charged)):
        return gr.skip(), gr.skip()
    session.consent.decline(prefix)
    return gr.update(visible=False), ""


def update(prefix: str, session: Session) -> Any:
    """Update that shows the row while a consent is requested."""
    return gr.update(visible=session.consent.pending(prefix))


# Descriptions of providers: choices and text of the provider dropdown, cards of the About tab.


def choices(settings: Settings) -> list[tuple[str, str]]:
    """Return the choices of the dropdown as (title, strength, price of a service and status; id).

    Providers of this machine come before services, and own models and plug-ins last; in each group the ready ones come first.
    """
    states = ("ready", "download", "key", "licence", "unavailable")
    found = [(p.info, p.status(settings)) for p in PROVIDERS.values()]
    found.sort(key=lambda entry: (_group(entry[0]), states.index(entry[1].state)))
    return [(_choice(info, status, settings), info.id) for info, status in found]


def _group(info: ProviderInfo) -> int:
    """Place of the group of a provider: 0 for this machine, 1 for services, 2 for own models and plug-ins."""
    return int(info.kind == "remote") if info.id in PACKAGED else 2


def _choice(info: ProviderInfo, status: Status, settings: Settings) -> str:
    parts = [info.title]
    if info.best_for:
        parts.append(t(info.best_for))
    if info.kind == "remote":
        parts.append(t(str(quote(info, {}, settings))))
    if status.state != "ready":
        parts.append(status.brief or status_text(status))
    return " · ".join(parts)


def choices_with_best(settings: Settings) -> list[tuple[str, str]]:
    """Return the choice of the best free provider that is ready, and then `choices`."""
    best = find("auto", settings).info
    return [(t("Best available ({title})", title=best.title), "auto"), *choices(settings)]


def line(name: str, settings: Settings) -> str:
    """Return the text below the dropdown, see `summary`."""
    provider = find(name, settings)
    return summary(provider.info, expected(provider.info, settings), settings, provider.status(settings))


def summary(info: ProviderInfo, price: str, settings: Settings, status: Status | None = None) -> str:
    """Return status, price, recipient of the photo and license of a provider.

    What costs nothing and may be used commercially is summed up in a word; its details are one click away.
    """
    return render(
        "provider_line.html",
        info=info,
        status=None if status is None else _shown(status),
        price=price,
        free=info.kind == "local",
        restricted="non-commercial" in info.license.lower(),
        photo=data_use(info, settings),
    )


def refresh(name: str, settings: Settings) -> tuple[Any, str]:
    """Updates of the dropdown and its text: weights may be downloaded and licenses accepted while the page is open."""
    return gr.update(choices=choices_with_best(settings)), line(name, settings)


def expected(info: ProviderInfo, settings: Settings) -> str:
    """Return expected price and seconds as text."""
    parts = [t(quote(info, {}, settings).details())]
    if info.seconds is not None:
        parts.append(t("about {seconds} s", seconds=f"{info.seconds:g}"))
    return ", ".join(parts) + "."


def cards(settings: Settings) -> str:
    """Return a card for each provider but the published networks: status, price, license, recipient of the photo, model."""
    groups = ["On this server" if _shared(settings) else "On this computer", "Services", "Own models and plug-ins"]
    rows = [
        (replace(p.info, pixels=data_use(p.info, settings)), _shown(p.status(settings)), expected(p.info, settings))
        for p in (find(name, settings) for name in PROVIDERS if name not in MODELS)
    ]
    return render(
        "providers.html", groups=[(name, [row for row in rows if _group(row[0]) == i]) for i, name in enumerate(groups)]
    )


def data_use(info: ProviderInfo, settings: Settings) -> str:
    """Return where the photo is processed and when it is deleted, for a visitor of this server."""
    if info.kind == "remote":
        return t(info.pixels)
    if not _shared(settings):
        return t("The photo stays on this computer.")
    return t(
        "The photo is processed on {place} and deleted at the latest {minutes} minutes after you close this page.",
        place=place(settings),
        minutes=f"{settings.visit_seconds / 60:g}",
    )


def place(settings: Settings) -> str:
    """Return the name of this machine from the visitor's point of view, such as ``this server (studio.example.org)``."""
    if not _shared(settings):
        return t("this computer")
    names = [name for name in settings.allow_hosts if "*" not in name] + [n.host for n in public_hosts(settings.environ)]
    return t("this server ({name})", name=names[0]) if names else t("this server")


def _shared(settings: Settings) -> bool:
    """True if the server has visitors besides its owner; a reverse proxy may be detected after the page is built."""
    return settings.shared or Settings.from_environ().shared


def _shown(status: Status) -> Status:
    return replace(status, text=status_text(status))


# Key field and option fields of a provider.


def build_provider_options(provider: gr.Dropdown, settings: Settings, prefix: str = "") -> tuple[gr.Textbox, gr.State]:
    """Create the key field and the options of the selected provider; the state contains the changed options.

    Parameters
    ----------
    provider : gr.Dropdown
    settings : Settings
    prefix : str
        Of the element ids: ``batch-`` for ``batch-key``, ``batch-options-cascade`` and ``batch-option-steps``.
    """
    key = key_field(f"{prefix}key", visible=False)
    options = gr.State({})
    provider.change(partial(key_update, settings=settings), provider, key, **INSTANT)
    provider.change(dict.clear, options, None, **INSTANT)

    @gr.render(inputs=[provider], show_progress="hidden")
    def draw(name: str) -> None:
        draw_options(find(name, settings).info, options, prefix=f"{prefix}option", sections=prefix)

    return key, options


def draw_options(
    info: ProviderInfo,
    options: gr.State,
    shown: gr.HTML | None = None,
    show: Callable[[dict[str, Any]], str] = lambda options: "",
    prefix: str = "option",
    sections: str = "",
) -> None:
    """Create a field for each option, the advanced ones in a section of their own.

    Parameters
    ----------
    options : gr.State
        Receives changed values by option name.
    shown : gr.HTML, optional
        Receives ``show(options)`` after each change.
    prefix : str
        Of the element ids of the fields, which continue with the option's name.
    sections : str
        Prefix of the element ids of the sections, if several tabs have them.
    """

    def changed(values: dict[str, Any], value: Any, name: str) -> Any:
        # In place: a returned copy could overwrite a concurrent change of another option.
        values[name] = value
        return None if shown is None else show(values)

    for title, section, advanced in (("Options", "options", False), ("Advanced options", "advanced", True)):
        chosen = [option for option in info.options if option.advanced == advanced]
        if not chosen:
            continue
        with gr.Accordion(t(title), open=False, elem_id=f"{sections}{section}-{info.id}"):
            for option in chosen:
                field = component(option, f"{prefix}-{option.name}")
                field.change(partial(changed, name=option.name), [options, field], shown, **INSTANT)


def component(option: Option, elem_id: str) -> Any:
    """Create the component for an option, by its kind and range."""
    common: dict[str, Any] = {
        "label": t(option.title),
        "info": t(option.help) or None,
        "elem_id": elem_id,
        "interactive": True,
    }
    if option.kind == "bool":
        return gr.Checkbox(option.default, **common)
    if option.kind == "choice":
        return gr.Dropdown(list(option.choices), value=option.default, **common)
    if option.kind == "text":
        return gr.Textbox(option.default, max_lines=1, **common)
    low, high = option.minimum, option.maximum
    step = 1 if option.kind == "int" else None
    if low is not None and high is not None and high - low <= 1000:
        return gr.Slider(low, high, value=option.default, step=step, **common)
    return gr.Number(option.default, minimum=low, maximum=high, precision=0 if option.kind == "int" else None, **common)


def key_labels(info: ProviderInfo, settings: Settings) -> tuple[str, str]:
    """Return the label of a key field and the privacy note below it."""
    note = t("Used for your request only and never stored.")
    if api_keys.available(info.key_name, settings):
        note += " " + t("If empty, the key of this server is used.")
    return t("Your key for {service}", service=info.title.partition(":")[0]), note


def key_update(name: str, settings: Settings) -> Any:
    """Return the update of a key field for the provider `name`."""
    info = find(name, settings).info
    if info.kind == "local" or not info.key_name:
        return gr.update(visible=False, value="")
    label, note = key_labels(info, settings)
    return gr.update(visible=True, label=label, info=html.escape(note), value="")


# Choice of several providers and the key fields of all, for the tabs that run several.


def selection(prefix: str, settings: Settings, count: int = 1) -> gr.Dropdown:
    """Create a searchable choice of providers with the id ``prefix-providers``; `count` free ones are selected."""
    field = gr.Dropdown(
        choices(settings),
        value=preselected(settings, count),
        multiselect=True,
        label="Providers",
        elem_id=f"{prefix}-providers",
    )
    shown = _statuses(settings)

    def refreshed() -> Any:
        return gr.skip() if _statuses(settings) == shown else gr.update(choices=choices(settings))

    gr.on(None, refreshed, None, field, **INSTANT)  # at page load: see `refresh`
    return field


def _statuses(settings: Settings) -> dict[str, Status]:
    return {name: provider.status(settings) for name, provider in PROVIDERS.items()}


def preselected(settings: Settings, count: int) -> list[str]:
    """Return the ids of at most `count` free providers that are ready: the best one and the fastest ones."""
    ready = [name for name in AUTO if PROVIDERS[name].status(settings).state == "ready"]
    best = ready[:1] if count > 1 else []
    return best + ready[len(best) :][len(best) - count :]


def key_names() -> list[str]:
    """Return the names of the services' keys without duplicates, in the order of the registry."""
    return list(dict.fromkeys(p.info.key_name for p in PROVIDERS.values() if p.info.kind == "remote" and p.info.key_name))


def key_fields(prefix: str, settings: Settings) -> list[KeyField]:
    """Create a field for each key, in an accordion."""
    fields = []
    with gr.Accordion("Your keys", open=False, elem_id=f"{prefix}-keys"):
        for name in key_names():
            field = key_field(f"{prefix}-key-{name}")
            first = next(p for p in PROVIDERS.values() if p.info.key_name == name)
            field.label, field.info = key_labels(first.info, settings)
            fields.append(field)
    return fields


def keys_by_id(entered: tuple[str | None, ...]) -> dict[str, str]:
    """Return the keys that are entered in the `key_fields`, by the ids of the providers that use them."""
    keys = dict(zip(key_names(), entered, strict=True))
    return {name: key for name, p in PROVIDERS.items() if (key := (keys.get(p.info.key_name) or "").strip())}


# Offer of a second provider in the Compare tab, for visitors with only one ready provider.


#: Providers that are offered; the selection has all.
OFFERED = 2


@dataclass(frozen=True)
class SecondProvider:
    """Components of the offer: a panel with a note on keys, and a choice of providers that can be downloaded."""

    panel: gr.Column
    note: gr.HTML
    choice: gr.Radio

    def shown(self, ids: list[str]) -> Any:
        """Update that shows the panel while fewer than two providers are selected."""
        return gr.update(visible=len(ids) < 2)


def build_second_provider(visible: bool) -> SecondProvider:
    """Create the panel; `refresh` fills it at page load."""
    with gr.Column(visible=visible, elem_id="second-provider") as panel:
        note = gr.HTML("", elem_classes="bare")
        choice = gr.Radio([], label="Add a second provider", elem_id="second-choice", visible=False)
    return SecondProvider(panel, note, choice)


def refresh_second_provider(settings: Settings) -> tuple[str, Any]:
    """Updates of note and choice; weights may have been downloaded since the app was started."""
    choices = offers(settings)
    note = render("second_provider.html", key=_cheapest_key(settings))
    return note, gr.update(choices=choices, value=None, visible=bool(choices))


def offers(settings: Settings) -> list[tuple[str, str]]:
    """Return (text, id) of the networks of `AUTO` that are downloaded on first use, fastest first."""
    found = []
    for name in AUTO:
        info, status = PROVIDERS[name].info, PROVIDERS[name].status(settings)
        if status.state == "download":
            assert info.seconds is not None
            seconds = t("about {seconds} s", seconds=f"{info.seconds:g}")
            found.append((info.seconds, f"{info.title}: {status_text(status)}, {seconds}. {t(info.license)}", name))
    return [(text, name) for _, text, name in sorted(found)[:OFFERED]]


def add(chosen: str | None, ids: list[str]) -> list[str]:
    """Return the selected providers with the chosen one."""
    return [*ids, *([chosen] if chosen and chosen not in ids else [])]


def _cheapest_key(settings: Settings) -> str:
    """Sentence on the service with the lowest listed price that needs no more than a key; empty if there is none."""
    services = [p.info for p in PROVIDERS.values() if p.info.price and p.status(settings).state == "key"]
    quotes = [(quote(info, {}, settings), info.title) for info in services]
    priced = [(price.cost.usd, title, t(str(price))) for price, title in quotes if price.cost.basis == "listed"]
    if not priced:
        return ""
    _, title, price = min(priced)
    return t("With a key under “Your keys”, {title} costs {price} a picture.", title=title, price=price)
