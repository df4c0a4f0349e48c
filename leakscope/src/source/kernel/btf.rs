//! A narrow reader of the kernel's BTF (Documentation/bpf/btf.rst): where members of named structs are, and what a named
//! tracepoint's arguments are. Why it is our own: docs/decisions/0004.
//!
//! The image is kept as it came, with one offset for each type; nothing else is copied. Whatever the bytes are, no read
//! leaves them, no walk is without end, and nothing panics: what makes no sense is `None`. Start at [`Btf::new`].

use std::ops::Range;

const MAGIC: u16 = 0xeb9f;
/// Up to `str_len`; a newer header may be longer.
const HEADER: usize = 24;
/// Name, info, and size or type.
const COMMON: usize = 12;
/// Modifiers in a row, structs inside of structs: the kernel's own limit for a resolution.
const DEPTH: u32 = 32;
/// The numbers of three kinds.
const FORWARD: u32 = 7;
const TYPEDEF: u32 = 8;
const FUNCTION: u32 = 12;
/// Members that one search may look at: the largest struct of the kernel has some hundreds, with all that is in it.
const MEMBERS: u32 = 65_536;

/// What a type is: the kinds that are looked into; the others have only a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Pointer,
    Array,
    Struct,
    Union,
    Enum,
    Typedef,
    /// `const`, `volatile`, `restrict`, and a tag: they change nothing of where things are.
    Modifier,
    Function,
    FuncProto,
    Other,
}

/// A step from a type into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To a member of a struct or union, also one of an anonymous member's.
    Member(&'static str),
    /// To an element of an array.
    Element(u32),
}

/// A kernel's description of its types.
pub(super) struct Btf {
    image: Vec<u8>,
    strings: Range<usize>,
    /// Where each type begins in `image`; the first is of the type 1.
    starts: Vec<u32>,
}

/// One type's fixed part.
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    kind: Kind,
    /// Members, parameters.
    count: usize,
    /// Member offsets carry the size of a bit field.
    bit_fields: bool,
    /// Its size in bytes, or the type that it refers to.
    size_or_type: u32,
    /// Where its variable part begins in the image.
    tail: usize,
}

impl Btf {
    /// Goes through all types once.
    ///
    /// # Errors
    /// Says what of the image makes no sense.
    pub(super) fn new(image: Vec<u8>) -> Result<Self, &'static str> {
        let header = image.get(..HEADER).ok_or("it is shorter than its header")?;
        if header.get(..2) != Some(&MAGIC.to_ne_bytes()) {
            return Err("it does not begin as BTF does on this machine");
        }
        let section = |at: usize| {
            let begin = word(&image, 4)?.checked_add(word(&image, at)?)?;
            let end = begin.checked_add(word(&image, at + 4)?)?;
            Some(usize::try_from(begin).ok()?..usize::try_from(end).ok()?)
                .filter(|part| part.end <= image.len())
        };
        let types = section(8).ok_or("its types lie beyond its end")?;
        let strings = section(16).ok_or("its names lie beyond its end")?;
        let mut starts = Vec::new();
        let mut at = types.start;
        while at < types.end {
            starts.push(u32::try_from(at).map_err(|_| "it is too long")?);
            let length = length(&image, at).ok_or("a type is of no known kind")?;
            at = at.checked_add(length).filter(|end| *end <= types.end).ok_or("its last type is cut off")?;
        }
        Ok(Self { image, strings, starts })
    }

    /// The id of the type of this kind and name: a function or a typedef may have a struct's name.
    pub(super) fn find(&self, kind: Kind, name: &str) -> Option<u32> {
        let named = |id: &u32| {
            self.get(*id).is_some_and(|found| found.kind == kind && self.is_called(found.name, name))
        };
        (1..=self.last()).find(named)
    }

    /// The highest id.
    pub(super) fn last(&self) -> u32 {
        u32::try_from(self.starts.len()).unwrap_or(u32::MAX)
    }

    /// Bytes from the beginning of the type `id` to where the steps lead; `None` where there is no such member, or it is
    /// a bit field.
    pub(super) fn offset_of(&self, id: u32, path: &[Step]) -> Option<u32> {
        let mut id = id;
        let mut bytes: u32 = 0;
        for step in path {
            let inside = self.plain(id)?;
            let (from_here, next) = match step {
                Step::Member(name) => self.member(inside, name, DEPTH, &mut { MEMBERS })?,
                Step::Element(index) => self.element(inside, *index)?,
            };
            bytes = bytes.checked_add(from_here)?;
            id = next;
        }
        Some(bytes)
    }

    /// The types of the parameters of the function that the typedef `name` is a pointer to.
    pub(super) fn parameters(&self, name: &str) -> Option<Vec<u32>> {
        let pointer =
            self.plain(self.find(Kind::Typedef, name)?).filter(|found| found.kind == Kind::Pointer)?;
        let proto = self.plain(pointer.size_or_type).filter(|found| found.kind == Kind::FuncProto)?;
        (0..proto.count).map(|index| word(&self.image, proto.tail + 8 * index + 4)).collect()
    }

    /// An image with these typedefs and functions under the ids that they have here, and nothing else that has a name: what
    /// is between them are declarations.
    pub(super) fn excerpt(&self, typedefs: &[String], functions: &[&str]) -> Vec<u8> {
        let typedefs = typedefs.iter().map(String::as_str);
        let typedefs = typedefs.filter_map(|name| Some((self.find(Kind::Typedef, name)?, TYPEDEF, name)));
        let functions = functions.iter().filter_map(|name| Some((self.call(name)?, FUNCTION, *name)));
        let mut wanted: Vec<(u32, u32, &str)> = typedefs.chain(functions).collect();
        wanted.sort_unstable();
        let mut types: Vec<u8> = Vec::new();
        let mut strings = vec![0];
        for (id, kind, name) in wanted {
            let before = usize::try_from(id).unwrap_or(usize::MAX).saturating_sub(1).min(self.starts.len());
            while types.len() < before * COMMON {
                types.extend(words([0, FORWARD << 24, 0]));
            }
            types.extend(words([number(strings.len()), kind << 24, 0]));
            strings.extend(name.bytes().chain([0]));
        }
        let length = number(types.len());
        let mut image = MAGIC.to_ne_bytes().to_vec();
        image.extend([1, 0]);
        image.extend(words([number(HEADER), 0, length, length, number(strings.len())]));
        image.append(&mut types);
        image.append(&mut strings);
        image
    }

    /// The id of the function of this name that is given registers. A kernel may describe it twice, once by a declaration
    /// for which `struct pt_regs` had no members.
    pub(super) fn call(&self, name: &str) -> Option<u32> {
        (1..=self.last()).find(|id| {
            self.get(*id).is_some_and(|found| {
                found.kind == Kind::Function
                    && self.is_called(found.name, name)
                    && self
                        .first_parameter(found.size_or_type)
                        .is_some_and(|given| self.points_to(given, "pt_regs"))
            })
        })
    }

    fn first_parameter(&self, prototype: u32) -> Option<u32> {
        let prototype =
            self.get(prototype).filter(|found| found.kind == Kind::FuncProto && found.count > 0)?;
        word(&self.image, prototype.tail + 4)
    }

    /// Whether a value of the type is a number.
    pub(super) fn is_number(&self, id: u32) -> bool {
        self.plain(id).is_some_and(|found| matches!(found.kind, Kind::Int | Kind::Enum))
    }

    /// Whether a value of the type is a pointer to the struct `name`.
    pub(super) fn points_to(&self, id: u32, name: &str) -> bool {
        let pointer = self.plain(id).filter(|found| found.kind == Kind::Pointer);
        let target = pointer.and_then(|pointer| self.plain(pointer.size_or_type));
        target.is_some_and(|target| target.kind == Kind::Struct && self.is_called(target.name, name))
    }

    fn get(&self, id: u32) -> Option<Type> {
        // The type 0 is void, and has no entry.
        let index = usize::try_from(id).ok()?.checked_sub(1)?;
        read(&self.image, usize::try_from(*self.starts.get(index)?).ok()?)
    }

    /// The type behind typedefs and modifiers.
    fn plain(&self, id: u32) -> Option<Type> {
        let mut found = self.get(id)?;
        for _ in 0..DEPTH {
            if !matches!(found.kind, Kind::Typedef | Kind::Modifier) {
                return Some(found);
            }
            found = self.get(found.size_or_type)?;
        }
        None
    }

    fn is_called(&self, name: u32, wanted: &str) -> bool {
        let names = self.image.get(self.strings.clone());
        let rest =
            usize::try_from(name).ok().and_then(|name| names?.get(name..)?.strip_prefix(wanted.as_bytes()));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    }

    /// Where a member is, in bytes, and its type. `budget` is how many members may still be looked at.
    fn member(&self, inside: Type, name: &str, depth: u32, budget: &mut u32) -> Option<(u32, u32)> {
        if !matches!(inside.kind, Kind::Struct | Kind::Union) {
            return None;
        }
        let deeper = depth.checked_sub(1)?;
        for index in 0..inside.count {
            *budget = budget.checked_sub(1)?;
            let at = inside.tail + COMMON * index;
            let (called, id) = (word(&self.image, at)?, word(&self.image, at + 4)?);
            let place = word(&self.image, at + 8)?;
            if self.is_called(called, name) {
                return Some((byte_offset(place, inside.bit_fields)?, id));
            }
            // An anonymous struct or union: its members are this one's. A bit field without a name has none.
            if called == 0
                && let Some(anonymous) = self.plain(id)
                && let Some((bytes, found)) = self.member(anonymous, name, deeper, budget)
            {
                return Some((byte_offset(place, inside.bit_fields)?.checked_add(bytes)?, found));
            }
        }
        None
    }

    fn element(&self, inside: Type, index: u32) -> Option<(u32, u32)> {
        if inside.kind != Kind::Array {
            return None;
        }
        let (id, count) = (word(&self.image, inside.tail)?, word(&self.image, inside.tail + 8)?);
        let bytes = self.size(id, DEPTH)?.checked_mul(index)?;
        (index < count).then_some((bytes, id))
    }

    fn size(&self, id: u32, depth: u32) -> Option<u32> {
        let found = self.plain(id)?;
        match found.kind {
            Kind::Int | Kind::Enum | Kind::Struct | Kind::Union => Some(found.size_or_type),
            Kind::Pointer => u32::try_from(size_of::<usize>()).ok(),
            Kind::Array => {
                let one = self.size(word(&self.image, found.tail)?, depth.checked_sub(1)?)?;
                one.checked_mul(word(&self.image, found.tail + 8)?)
            }
            Kind::Typedef | Kind::Modifier | Kind::Function | Kind::FuncProto | Kind::Other => None,
        }
    }
}

/// A number of the image, as this machine writes it.
fn word(image: &[u8], at: usize) -> Option<u32> {
    let bytes = image.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn words<const N: usize>(numbers: [u32; N]) -> impl Iterator<Item = u8> {
    numbers.into_iter().flat_map(u32::to_ne_bytes)
}

/// A length of an image that is shorter than the kernel's.
fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// A member's place is given in bits. With bit fields, the upper byte is the field's size: 0 for a whole member.
fn byte_offset(place: u32, bit_fields: bool) -> Option<u32> {
    let (size, bits) = if bit_fields { (place >> 24, place & 0x00ff_ffff) } else { (0, place) };
    (size == 0 && bits.is_multiple_of(8)).then_some(bits / 8)
}

fn read(image: &[u8], at: usize) -> Option<Type> {
    let info = word(image, at + 4)?;
    let kind = match (info >> 24) & 0x1f {
        1 => Kind::Int,
        2 => Kind::Pointer,
        3 => Kind::Array,
        4 => Kind::Struct,
        5 => Kind::Union,
        6 | 19 => Kind::Enum,
        TYPEDEF => Kind::Typedef,
        9..=11 | 18 => Kind::Modifier,
        FUNCTION => Kind::Function,
        13 => Kind::FuncProto,
        _ => Kind::Other,
    };
    Some(Type {
        name: word(image, at)?,
        kind,
        count: usize::try_from(info & 0xffff).ok()?,
        bit_fields: info >> 31 == 1,
        size_or_type: word(image, at + 8)?,
        tail: at.checked_add(COMMON)?,
    })
}

/// The bytes of the type at `at`; `None` for a kind that this reader does not know, whose length nobody can tell.
fn length(image: &[u8], at: usize) -> Option<usize> {
    let info = word(image, at.checked_add(4)?)?;
    let count = usize::try_from(info & 0xffff).ok()?;
    let tail = match (info >> 24) & 0x1f {
        // int, variable, declaration tag.
        1 | 14 | 17 => 4,
        // array.
        3 => 12,
        // struct, union, data section, 64-bit enum.
        4 | 5 | 15 | 19 => 12 * count,
        // enum, function prototype.
        6 | 13 => 8 * count,
        // pointer, forward declaration, typedef, modifiers, function, float, type tag.
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    };
    Some(COMMON + tail)
}

#[cfg(test)]
mod tests;
