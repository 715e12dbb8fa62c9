//! The running kernel's own types (`Documentation/bpf/btf.rst`): where a struct has a field.

use std::{fs, io};

/// Needs `CONFIG_DEBUG_INFO_BTF`, and `/sys`.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
const MAGIC: u16 = 0xeb9f;
const BTF_KIND_STRUCT: u32 = 4;
/// `struct btf_type`.
const TYPE: usize = 12;
/// `struct btf_member`.
const MEMBER: usize = 12;

/// The offset of `field` within `name`, in bytes.
///
/// # Errors
/// If the kernel has no BTF, or no such field.
pub fn offset_of(name: &str, field: &str) -> io::Result<u32> {
    let bytes = fs::read(VMLINUX)?;
    find(&bytes, name, field).ok_or_else(|| {
        let what = format!("{VMLINUX} has no {field} of struct {name}");
        io::Error::new(io::ErrorKind::NotFound, what)
    })
}

fn find(btf: &[u8], name: &str, field: &str) -> Option<u32> {
    if u16::from_ne_bytes(*btf.first_chunk()?) != MAGIC {
        return None;
    }
    let sections = btf.get(word(btf, 4)? as usize..)?;
    let section = |at| {
        let (start, len) = (word(btf, at)? as usize, word(btf, at + 4)? as usize);
        sections.get(start..)?.get(..len)
    };
    let (mut types, strings) = (section(8)?, section(16)?);
    let is = |offset: u32, text: &str| {
        let rest = strings.get(offset as usize..);
        let rest = rest.and_then(|rest| rest.strip_prefix(text.as_bytes()));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    };
    loop {
        let info = word(types, 4)?;
        let (kind, count) = (info >> 24 & 0x1f, info as usize & 0xffff);
        let more = types.get(TYPE..)?;
        if kind == BTF_KIND_STRUCT && is(word(types, 0)?, name) {
            let members = more.get(..count * MEMBER)?;
            let mut members = members.chunks_exact(MEMBER);
            let member = members.find(|member| word(member, 0).is_some_and(|at| is(at, field)))?;
            let bits = word(member, 8)?;
            // With `kind_flag`, the upper byte is the size of a bit field.
            let bits = if info >> 31 == 1 {
                bits & 0x00ff_ffff
            } else {
                bits
            };
            return Some(bits / 8);
        }
        types = more.get(size_of_rest(kind, count)?..)?;
    }
}

/// Bytes that follow a `struct btf_type` of this kind.
fn size_of_rest(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        // PTR, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FLOAT, TYPE_TAG
        2 | 7..=12 | 16 | 18 => 0,
        // INT, VAR, DECL_TAG
        1 | 14 | 17 => 4,
        // ARRAY
        3 => 12,
        // ENUM, FUNC_PROTO
        6 | 13 => 8 * count,
        // STRUCT, UNION, DATASEC, ENUM64
        4 | 5 | 15 | 19 => 12 * count,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::find;

    /// An int, a struct `dev` of `a` and `b`, a struct `other`.
    fn btf(kind_flag: u32) -> Vec<u8> {
        let strings = b"\0int\0dev\0a\0b\0other\0";
        let types = [
            [1, 1 << 24, 4, 32].as_slice(),
            &[
                5,
                kind_flag << 31 | 4 << 24 | 2,
                8,
                9,
                1,
                0,
                11,
                1,
                kind_flag << 24 | 32,
            ],
            &[13, 4 << 24, 0],
        ];
        let types: Vec<u32> = types.concat();
        let lens = [types.len() * 4, strings.len()];
        let [types_len, strings_len] = lens.map(|len| u32::try_from(len).unwrap());
        let mut bytes = 0xeb9f_u16.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        for word in [24, 0, types_len, types_len, strings_len] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(types.iter().flat_map(|word| word.to_ne_bytes()));
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn a_field_is_found_by_its_name() {
        for kind_flag in [0, 1] {
            let btf = btf(kind_flag);
            assert_eq!(find(&btf, "dev", "a"), Some(0));
            assert_eq!(find(&btf, "dev", "b"), Some(4));
            for (name, field) in [("dev", "c"), ("de", "a"), ("other", "a"), ("int", "a")] {
                assert_eq!(find(&btf, name, field), None, "{name} {field}");
            }
        }
    }

    #[test]
    fn what_is_cut_short_has_nothing() {
        let btf = btf(0);
        for len in 0..btf.len() {
            let found = find(&btf[..len], "other", "a");
            assert_eq!(found, None, "of {len} bytes");
        }
    }
}
