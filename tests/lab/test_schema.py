"""Tables of an experiment file."""

from jaxsde.lab.schema import _EXAMPLES, ExperimentTable


def test_every_missing_key_has_an_example():
    def required(model, path=""):
        for name, field in model.model_fields.items():
            inner = field.annotation
            inner = (*getattr(inner, "__args__", ()), inner)[0]  # list[Table] -> Table
            if field.is_required():
                yield path + name
            if hasattr(inner, "model_fields"):
                yield from required(inner, f"{path}{name}.")

    names = set(required(ExperimentTable))
    assert {"params.kappa", "sequence.stages.nbar", "gain_scan.t_c"} <= names
    assert names == set(_EXAMPLES)
