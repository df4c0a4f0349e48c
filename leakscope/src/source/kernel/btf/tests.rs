//! BTF written by hand, whole and damaged.

use proptest::prelude::*;

use super::*;

/// Writes BTF by hand.
#[derive(Default)]
struct Writer {
    types: Vec<u32>,
    names: Vec<u8>,
}

impl Writer {
    fn name(&mut self, name: &str) -> u32 {
        if self.names.is_empty() {
            self.names.push(0);
        }
        if name.is_empty() {
            return 0;
        }
        let at = u32::try_from(self.names.len()).unwrap();
        self.names.extend(name.bytes().chain([0]));
        at
    }

    fn put(&mut self, name: &str, kind: u32, count: u32, size_or_type: u32, tail: &[u32]) {
        let name = self.name(name);
        self.types.extend([name, (kind << 24) | count, size_or_type]);
        self.types.extend(tail);
    }

    fn image(&self) -> Vec<u8> {
        let types = u32::try_from(self.types.len() * 4).unwrap();
        let names = u32::try_from(self.names.len()).unwrap();
        let mut image = MAGIC.to_ne_bytes().to_vec();
        image.extend([1, 0]);
        for word in [24, 0, types, types, names].iter().chain(&self.types) {
            image.extend(word.to_ne_bytes());
        }
        image.extend(&self.names);
        image
    }
}

/// `struct outer { int a; const struct { long b[3]; }; int bits: 3; }`, and
/// `typedef void (*btf_trace_it)(void *, struct outer *, number)`.
fn example() -> Writer {
    let mut w = Writer::default();
    let [a, b, bits] = ["a", "b", "bits"].map(|name| w.name(name));
    w.put("long", 1, 0, 8, &[64]);
    w.put("", 3, 0, 0, &[1, 1, 3]);
    w.put("", 4, 1, 24, &[b, 2, 0]);
    w.put("", 10, 0, 3, &[]);
    w.put("int", 1, 0, 4, &[32]);
    w.put("outer", 4 | 0x80, 3, 40, &[a, 5, 0, 0, 4, 64, bits, 5, (3 << 24) | 256]);
    w.put("", 2, 0, 6, &[]);
    w.put("number", 8, 0, 5, &[]);
    w.put("", 2, 0, 0, &[]);
    w.put("", 13, 3, 0, &[0, 9, 0, 7, 0, 8]);
    w.put("", 2, 0, 10, &[]);
    w.put("btf_trace_it", 8, 0, 11, &[]);
    w.put("pt_regs", 7, 0, 0, &[]);
    w.put("", 2, 0, 13, &[]);
    w.put("", 13, 1, 0, &[0, 14]);
    w.put("call", 12, 0, 15, &[]);
    w.put("pt_regs", 4, 0, 8, &[]);
    w.put("", 2, 0, 17, &[]);
    w.put("", 13, 1, 0, &[0, 18]);
    w.put("call", 12, 0, 19, &[]);
    w
}

/// Asks for all that can be asked for.
fn ask_everything(image: Vec<u8>) {
    let Ok(btf) = Btf::new(image) else { return };
    for kind in [Kind::Struct, Kind::Typedef] {
        let _ = btf.find(kind, "outer");
    }
    let _ = btf.parameters("btf_trace_it");
    let _ = btf.excerpt(&["btf_trace_it".to_owned(), "outer".to_owned()], &["call", "outer"]);
    for id in (0..=btf.last() + 1).chain([u32::MAX]) {
        let _ = btf.offset_of(id, &[Step::Member("b"), Step::Element(2)]);
        let _ = btf.offset_of(id, &[Step::Element(u32::MAX), Step::Element(1)]);
        let _ = (btf.is_number(id), btf.points_to(id, "outer"));
    }
}

#[test]
fn members_are_found_through_anonymous_ones_and_elements_through_arrays() {
    let btf = Btf::new(example().image()).unwrap();
    let outer = btf.find(Kind::Struct, "outer").unwrap();
    assert_eq!(btf.offset_of(outer, &[Step::Member("a")]), Some(0));
    assert_eq!(btf.offset_of(outer, &[Step::Member("b")]), Some(8));
    assert_eq!(btf.offset_of(outer, &[Step::Member("b"), Step::Element(2)]), Some(24));
    assert_eq!(btf.offset_of(outer, &[Step::Member("b"), Step::Element(3)]), None, "beyond the array");
    assert_eq!(btf.offset_of(outer, &[Step::Member("bits")]), None, "not a whole number of bytes");
    assert_eq!(btf.offset_of(outer, &[Step::Member("outer")]), None);
    assert_eq!(btf.find(Kind::Typedef, "outer"), None, "of another kind");
    assert_eq!(btf.find(Kind::Struct, "oute"), None, "only its beginning");
}

#[test]
fn a_tracepoints_arguments_are_told_apart() {
    let btf = Btf::new(example().image()).unwrap();
    let parameters = btf.parameters("btf_trace_it").unwrap();
    assert_eq!(parameters, [9, 7, 8]);
    assert!(btf.points_to(parameters[1], "outer") && !btf.points_to(parameters[1], "long"));
    assert!(btf.is_number(parameters[2]) && !btf.is_number(parameters[1]));
    assert!(!btf.points_to(parameters[0], "outer"), "a void pointer");
    assert_eq!(btf.parameters("number"), None, "no pointer to a function");
}

#[test]
fn an_excerpt_has_the_wanted_typedefs_and_functions_under_their_ids_and_nothing_else() {
    let btf = Btf::new(example().image()).unwrap();
    let names = ["btf_trace_it", "no_such", "number"].map(str::to_owned);
    let excerpt = Btf::new(btf.excerpt(&names, &["call", "no_such"])).unwrap();
    for name in ["btf_trace_it", "number"] {
        assert_eq!(excerpt.find(Kind::Typedef, name), btf.find(Kind::Typedef, name));
    }
    // The one of which it is known what it is given.
    assert_eq!(
        (btf.find(Kind::Function, "call"), excerpt.find(Kind::Function, "call")),
        (Some(16), Some(20))
    );
    assert_eq!(excerpt.find(Kind::Typedef, "no_such"), None);
    assert_eq!(excerpt.find(Kind::Struct, "outer"), None);
    assert!(aya::Btf::parse(&btf.excerpt(&names, &["call"]), aya::Endianness::default()).is_ok());
}

#[test]
fn a_struct_that_contains_itself_without_a_name_ends_the_search() {
    let mut w = Writer::default();
    let a = w.name("a");
    let own: Vec<u32> = (0..100).flat_map(|_| [0, 1, 0]).chain([a, 1, 0]).collect();
    w.put("outer", 4, 101, 8, &own);
    let btf = Btf::new(w.image()).unwrap();
    assert_eq!(btf.offset_of(1, &[Step::Member("b")]), None);
}

#[test]
fn another_byte_order_and_an_image_cut_off_are_errors() {
    let image = example().image();
    for length in 0..image.len() {
        assert!(Btf::new(image[..length].to_vec()).is_err(), "{length} bytes");
    }
    let mut swapped = image;
    swapped.swap(0, 1);
    assert!(Btf::new(swapped).is_err());
}

proptest! {
    #[test]
    fn random_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let mut image = example().image();
        image.truncate(HEADER);
        image.extend(&bytes);
        ask_everything(bytes);
        ask_everything(image);
    }

    #[test]
    fn a_damaged_image_does_not_panic(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut image = example().image();
        for (at, byte) in damage {
            let at = at.index(image.len());
            image[at] = byte;
        }
        ask_everything(image);
    }
}
