"""The page. No module outside of this package imports Gradio, so its import is prepared here."""

from rmbg.ui.gradio_stubs import skip_stubs

skip_stubs()
