"""The terminal interface. `form` and `workers` import no Textual; `app` owns the controllers, which open the screens."""
