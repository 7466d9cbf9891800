"""Methods that drop tokens inside the language model: their base class, schedules, plans and reports."""
