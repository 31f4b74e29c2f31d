//! Dumps that are hostile or cut; whole ones come from real servers in `tests/postgres`.

use super::*;

#[test]
fn what_is_cut_or_nonsense_is_damage_and_never_a_panic() {
    let mut head = b"PGDMP\x01\x0e\x00\x04\x08\x01".to_vec();
    head.extend([0; 5]);
    for length in 0..head.len() {
        assert!(custom(&head[..length], "a test", &mut Nobody).is_err());
    }
    for (at, value) in [(5, 9), (8, 0), (8, 200), (9, 0), (10, 77)] {
        let mut bad = head.clone();
        bad[at] = value;
        assert!(custom(&bad[..], "a test", &mut Nobody).is_err());
    }
    // A text that says it is very long costs nothing but what is there.
    head.extend([0; 35]);
    head.extend([0, 255, 255, 255, 127]);
    assert_eq!(custom(&head[..], "a test", &mut Nobody).expect_err("refused").kind(), Kind::Damaged);
}

#[test]
fn a_script_that_does_not_say_that_it_is_whole_is_cut_off() {
    let text = "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\nCREATE TABLE public.t (\n    a text\n);\n\n\
                COPY public.t (a) FROM stdin;\nx\n\\N\n\\.\n\n\n--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict abc\n";
    let read = |text: &str| script::scan(text.as_bytes(), "a test", &mut Nobody);
    assert_eq!(read(text).expect("whole").counts()["public.t"], 2);
    for cut in ["\\.\n", "-- PostgreSQL database dump complete"] {
        let at = text.find(cut).expect("there");
        assert_eq!(read(&text[..at]).expect_err("cut").kind(), Kind::Damaged, "{cut}");
    }
}
