//! Weight files that somebody damaged or made to do harm: each is refused, and none ends the program.

mod files;

use files::{Outcome, contents, craft, craft_entries, data, one_tensor, read, refusal, sample, scratch};
use selfpatch_weights::{self as weights, WeightsError};
use std::fs;
use std::io::Write;
use std::path::Path;

#[test]
fn impossible_tensors_are_refused() -> Outcome {
    let huge = b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f".as_slice(); // 2^63 - 1
    let two_to_31 = b"\x8a\x05\0\0\0\x80\0".as_slice();
    let cases: [(&str, Vec<u8>); 12] = [
        ("one too many", b"K\0K\x05\x85K\x01\x85".to_vec()),
        ("giant shape", [b"K\0", two_to_31, b"M\xff\xff\x86K\x01K\x01\x86"].concat()),
        ("giant, no strides", [b"K\0", two_to_31, b"\x85K\0\x85"].concat()),
        ("overflow", [b"K\0", huge, huge, huge, b"\x87K\x01K\x01K\x01\x87"].concat()),
        ("overflow behind a zero", [b"K\0", huge, huge, b"K\0\x87K\x01K\x01K\x01\x87"].concat()),
        ("offset", b"K\x04K\x01\x85K\x01\x85".to_vec()),
        ("giant offset", [huge, b"K\x02\x85K\x01\x85".as_slice()].concat()),
        ("stride", b"K\0K\x02\x85K\x04\x85".to_vec()),
        ("giant stride", [b"K\0K\x03\x85", huge, b"\x85".as_slice()].concat()),
        ("negative stride", b"K\x03K\x02\x85J\xff\xff\xff\xff\x85".to_vec()),
        ("ranks differ", b"K\0K\x02\x85)".to_vec()),
        ("rank 9", b"K\0(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01t)".to_vec()),
    ];
    for (what, rest) in cases {
        let path = craft("impossible.pth", &one_tensor(&rest))?;
        let outcome = read(&path);
        assert!(
            matches!(outcome, Err(WeightsError::Tensor { .. } | WeightsError::Pickle { .. })),
            "{what}: {outcome:?}"
        );
    }
    Ok(())
}

#[test]
fn malformed_pickles_are_refused() -> Outcome {
    let tensor = b"ctorch._utils\n_rebuild_tensor_v2\n";
    let parameter = b"ctorch._utils\n_rebuild_parameter\n";
    let nested = [&b"("[..]; 100_000].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", vec![]),
        ("no result", b".".to_vec()),
        ("no dict", b"\x80\x02].".to_vec()),
        ("tensor()", [&b"}K\0"[..], tensor, b")Rs."].concat()),
        ("parameter()", [&b"}K\0"[..], parameter, b")Rs."].concat()),
        ("empty persistent id", b"})Q.".to_vec()),
        ("call of a number", b"K\x01)R.".to_vec()),
        ("arguments are no tuple", [&tensor[..], b"K\x01R."].concat()),
        ("missing memo", b"}h\x07.".to_vec()),
        ("missing mark", b"}t.".to_vec()),
        ("odd dict", b"}(K\x01u.".to_vec()),
        ("pop through a mark", b"}(0(0s.".to_vec()),
        ("long string", b"X\xff\xff\xff\xff.".to_vec()),
        ("longer string", b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.".to_vec()),
        ("many marks", nested),
        ("unterminated name", b"ctorch".to_vec()),
        ("unknown instruction", b"\xff.".to_vec()),
        ("protocol 0 instruction", b"I1\n.".to_vec()),
        ("extension registry", b"\x82\x01.".to_vec()),
    ];
    for (what, pickle) in cases {
        let outcome = read(&craft("malformed.pth", &pickle)?);
        assert!(matches!(outcome, Err(WeightsError::Pickle { .. })), "{what}: {outcome:?}");
    }
    Ok(())
}

#[test]
fn a_dict_that_contains_itself_is_harmless() -> Outcome {
    let path = craft("cycle.pth", b"}q\0X\x05\0\0\0modelh\0s.")?;
    let outcome = read(&path)?.select(None);
    assert!(matches!(outcome, Err(WeightsError::NoTensors { .. })));
    Ok(())
}

#[test]
fn dicts_are_looked_into_up_to_eight_deep() -> Outcome {
    let tensor = one_tensor(b"K\0K\x02K\x02\x86K\x02K\x01\x86");
    let dict = tensor.get(2..tensor.len() - 1).ok_or("no dict")?;
    for (depth, found) in [(8, 1), (9, 0)] {
        let pickle = [b"}X\x01\0\0\0k".repeat(depth), dict.to_vec(), b"s".repeat(depth), b".".to_vec()].concat();
        assert_eq!(read(&craft("deep.pth", &pickle)?)?.places().len(), found, "{depth}");
    }
    Ok(())
}

#[test]
fn overlapping_views_cannot_fill_the_memory() -> Outcome {
    // 200 shifted windows of 2,000 floats each, all in one storage of 4,000.
    let mut pickle = b"\x80\x02}(".to_vec();
    for i in 0..200u8 {
        pickle.extend(b"X\x02\0\0\0");
        pickle.extend(format!("{i:02x}").as_bytes());
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storage");
        pickle.extend(b"ctorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuM\xa0\x0ftQ");
        pickle.extend([b'K', i, b'M', 0xd0, 0x07, 0x85, b'K', 1, 0x85, b't', b'R']);
    }
    pickle.extend(b"u.");
    let entries = [("x/data.pkl", &pickle[..]), ("x/data/0", &[0; 16_000])];
    let message = refusal(read(&craft_entries("views.pth", &entries)?));
    assert!(message.contains("overlapping views"), "{message}");
    Ok(())
}

#[test]
fn foreign_python_objects_are_refused() -> Outcome {
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_device_tensor_from_numpy"),
        ("__main__", "Model"),
    ] {
        let protocol0 = format!("c{module}\n{name}\n(X\x02\0\0\0lstR.");
        let mut protocol4 = b"\x80\x04".to_vec();
        for text in [module, name] {
            protocol4.extend([0x8c, text.len() as u8]);
            protocol4.extend(text.as_bytes());
        }
        protocol4.extend(b"\x93)R.");
        for pickle in [protocol0.as_bytes(), &protocol4] {
            let message = refusal(read(&craft("foreign.pth", pickle)?));
            let named = format!("{module}.{name}");
            assert!(message.contains(&named) && message.contains("nothing was executed"), "{message}");
        }
    }
    Ok(())
}

#[test]
fn suspicious_containers_are_refused() -> Outcome {
    let dict = b"}.".as_slice();
    for bad in ["../data.pkl", "/x/data.pkl", "x/../../y", "..\\y"] {
        let path = craft_entries("names.pth", &[("x/data.pkl", dict), (bad, b"")])?;
        let message = refusal(read(&path));
        assert!(message.contains("unsafe entry name"), "{bad}: {message}");
    }
    let path = craft_entries("none.pth", &[("x/version", b"3")])?;
    assert!(refusal(read(&path)).contains("no data.pkl"));
    let path = craft_entries("big.pth", &[("x/data.pkl", dict), ("x/byteorder", b"big")])?;
    assert!(refusal(read(&path)).contains("little-endian"));
    let path = craft_entries("bare.pth", &[("x/data.pkl", &one_tensor(b"K\0))"))])?;
    assert!(refusal(read(&path)).contains("data/0 is absent"));
    Ok(())
}

/// Puts the original with one bit flipped into an existing file of the same length. In place:
/// some file systems wait for the disk when a file is truncated and written again.
fn flip(path: &Path, original: &[u8], bit: usize) -> std::io::Result<()> {
    let mut bytes = original.to_vec();
    if let Some(byte) = bytes.get_mut(bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
    fs::OpenOptions::new().write(true).open(path)?.write_all(&bytes)
}

/// Whatever a damaged file yields, it is an error or the original tensors.
#[test]
fn no_bit_flip_goes_unnoticed() -> Outcome {
    let path = scratch("flipped.pth");
    let (mut refused, mut harmless) = (0, 0);
    for (name, step) in [("small.pth", 1), ("flat.pth", 7), ("dino.pth", 61)] {
        let original = fs::read(data(name))?;
        let expected = contents(&read(&data(name))?.select(None)?)?;
        fs::write(&path, &original)?;
        for bit in (0..original.len() * 8).step_by(step) {
            flip(&path, &original, bit)?;
            match read(&path).and_then(|found| found.select(None)) {
                Err(_) => refused += 1,
                Ok(found) => {
                    assert_eq!(contents(&found)?, expected, "{name}, bit {bit}");
                    harmless += 1;
                }
            }
        }
    }
    // Padding, dates and permissions carry no weights; everything else counts.
    assert!(refused > 1000, "{refused} refused, {harmless} harmless");
    Ok(())
}

#[test]
fn truncated_files_are_refused() -> Outcome {
    let path = scratch("truncated.pth");
    let original = fs::read(data("small.pth"))?;
    for length in 0..original.len() {
        fs::write(&path, original.get(..length).unwrap_or_default())?;
        assert!(read(&path).is_err(), "{length} bytes");
    }
    Ok(())
}

/// Mutates the pickle itself under a correct CRC: no panic, no abort, and quick.
#[test]
fn mutated_pickles_do_not_panic() -> Outcome {
    let mut zip = zip::ZipArchive::new(fs::File::open(data("small.pth"))?)?;
    let mut pickle = Vec::new();
    std::io::copy(&mut zip.by_name("small/data.pkl")?, &mut pickle)?;
    let mut state = 1u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    for _ in 0..3000 {
        let mut mutant = pickle.clone();
        for _ in 0..=random(3) {
            let at = random(mutant.len());
            match random(3) {
                0 => mutant.insert(at, random(256) as u8),
                1 => drop(mutant.remove(at)),
                _ => {
                    if let Some(byte) = mutant.get_mut(at) {
                        *byte = random(256) as u8;
                    }
                }
            }
        }
        let entries = [("small/data.pkl", &mutant[..]), ("small/data/0", &[0; 8])];
        let path = craft_entries("mutant.pth", &entries)?;
        drop(read(&path).and_then(|found| found.select(None)));
    }
    Ok(())
}

#[test]
fn damaged_safetensors_are_refused() -> Outcome {
    let path = scratch("damaged.safetensors");
    weights::write_safetensors(&path, &sample()?, &[])?;
    let original = fs::read(&path)?;
    for length in (0..original.len()).step_by(5) {
        fs::write(&path, original.get(..length).unwrap_or_default())?;
        let message = refusal(read(&path));
        assert!(message.contains("damaged.safetensors"), "{message}");
    }
    fs::write(&path, &original)?;
    for bit in (0..original.len() * 8).step_by(5) {
        flip(&path, &original, bit)?;
        drop(read(&path)); // the format has no checksum: an error or other values, but no panic
    }
    let header = r#"{"w":{"dtype":"F32","shape":[4611686018427387904,4611686018427387904,0],"data_offsets":[0,0]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    fs::write(&path, bytes)?;
    assert!(read(&path).is_err());
    Ok(())
}
