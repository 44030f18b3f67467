"""What travels by value keeps what belongs to it: its file and lines, and its place at home."""

from __future__ import annotations

from headway.wire import payload


def test_the_code_of_functions_and_of_classes_keeps_its_file_for_tracebacks():
    def helper():
        return lambda: None

    class Local:
        def method(self):
            return helper()

    method = payload.load_function(payload.dump_function(Local)[1]).method
    inner = method.__closure__[0].cell_contents
    for code in (method.__code__, inner.__code__, inner().__code__):
        assert code.co_filename == __file__


def test_a_class_that_comes_back_is_left_as_it_is_here():
    # Given a class that is written by value, with a method of its own
    class Local:
        def method(self):
            return factor

    factor = 2
    method = Local.method
    written = payload.dump_result(Local(), "f")
    # When it comes back, after a change here
    Local.colour = "red"
    factor = 3
    back = payload.load_result(written)
    # Then it is the same class, with the same method, which sees the change
    assert type(back) is Local
    assert Local.method is method
    assert (back.method(), back.colour) == (3, "red")
