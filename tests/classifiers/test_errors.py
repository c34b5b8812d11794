import inspect
import pickle

from classifiers import errors


def test_the_tree_in_the_docstring_names_every_error() -> None:
    tree = inspect.getdoc(errors) or ""
    own = [name for name, one in inspect.getmembers(errors, inspect.isclass) if one.__module__ == errors.__name__]
    assert [name for name in own if name not in tree] == []
    assert all(issubclass(getattr(errors, name), errors.ClassifierError) for name in own)


def test_rows_that_are_not_finite_are_counted_and_the_first_is_named() -> None:
    message = str(errors.NotFinite.in_rows([3, 8], 10))
    assert "2 of the 10 rows" in message
    assert "first row 3" in message


def test_an_error_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(errors.NotFinite.in_rows([3], 10)))  # noqa: S301 its own bytes
    assert isinstance(error, errors.NotFinite)
    assert "first row 3" in str(error)
