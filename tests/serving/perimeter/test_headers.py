from receptance.serving.perimeter.headers import header_values


def test_all_values_of_a_name_are_returned_in_order():
    headers = [(b"X-A", b" 1 "), (b"x-b", b"2"), (b"x-a", b"3")]

    assert header_values({"headers": headers}, b"x-a") == [b"1", b"3"]
    assert header_values({"headers": headers}, b"x-c") == []
