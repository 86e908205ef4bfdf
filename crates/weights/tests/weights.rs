//! Weight files as they should be: of `torch.save` (see `data/make_pth.py`), and safetensors.

mod files;

use candle_core::{DType, Device, Tensor};
use files::{Outcome, contents, craft, craft_entries, data, f32s, one_tensor, read, refusal, sample, scratch, shapes};
use selfpatch_weights::{self as weights, Weights, WeightsError};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

#[test]
fn a_state_dict_is_read_as_saved() -> Outcome {
    let found = read(&data("flat.pth"))?.select(None)?;
    let counted: Vec<f32> = (0..12u8).map(f32::from).collect();
    assert_eq!(f32s(&found, "plain")?, counted);
    assert_eq!(f32s(&found, "tied")?, counted);
    assert_eq!(f32s(&found, "transposed")?, [0., 3., 6., 9., 1., 4., 7., 10., 2., 5., 8., 11.]);
    assert_eq!(f32s(&found, "columns")?, [4., 5., 7., 8., 10., 11.]);
    assert_eq!(f32s(&found, "tail")?, [9., 10., 11.]);
    assert_eq!(f32s(&found, "parameter")?, [0.5, 1.5]);
    assert_eq!(f32s(&found, "scalar")?, [7.25]);
    assert_eq!(f32s(&found, "byte")?, [0., 128., 255.]);
    let permuted = Tensor::arange(0f32, 24., &Device::Cpu)?.reshape((2, 3, 4))?;
    assert_eq!(f32s(&found, "permuted")?, permuted.permute((2, 0, 1))?.flatten_all()?.to_vec1::<f32>()?);
    for (name, dtype, shape) in [
        ("transposed", DType::F32, vec![3, 4]),
        ("scalar", DType::F32, vec![]),
        ("empty", DType::F32, vec![0, 3]),
        ("permuted", DType::F32, vec![4, 2, 3]),
        ("half", DType::F16, vec![3]),
        ("brain", DType::BF16, vec![3]),
        ("double", DType::F64, vec![3]),
        ("long", DType::I64, vec![3]),
        ("int", DType::I32, vec![2]),
        ("short", DType::I16, vec![2]),
        ("byte", DType::U8, vec![3]),
    ] {
        let tensor = found.tensors.get(name).ok_or(name)?;
        assert_eq!((tensor.dtype(), tensor.dims()), (dtype, &shape[..]));
    }
    for name in ["half", "brain"] {
        assert_eq!(f32s(&found, name)?, [0.5, 1.5, 2.5]);
    }
    let double = found.tensors.get("double").ok_or("double")?;
    assert_eq!(double.to_vec1::<f64>()?, [0.1f32, 1.1, 2.1].map(f64::from));
    let long = found.tensors.get("long").ok_or("long")?;
    assert_eq!(long.to_vec1::<i64>()?, [-(1i64 << 40), 0, 1 << 40]);
    for name in ["int", "short"] {
        assert_eq!(f32s(&found, name)?, [-7., 7.]);
    }
    // bool and uint16 have no dtype in candle: left out, and said so.
    assert_eq!(found.tensors.len(), 16);
    assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
    assert!(found.notes.join("").contains("`mask` is in a BoolStorage"));
    Ok(())
}

#[test]
fn pickle_protocols_agree() -> Outcome {
    let second = read(&data("flat.pth"))?;
    let fourth = read(&data("protocol4.pth"))?;
    assert_eq!(contents(&second)?, contents(&fourth)?);
    Ok(())
}

#[test]
fn dino_checkpoint_keys() -> Outcome {
    let names = ["blocks.0.bias", "blocks.0.weight", "cls_token", "norm.bias", "norm.weight"];
    // Without a key the teacher is preferred; it has no `module.`.
    for key in [Some("teacher"), Some("student"), None] {
        let chosen = read(&data("dino.pth"))?.select(key)?;
        let prefix = match key {
            Some("student") => "module.backbone.",
            _ => "backbone.",
        };
        assert!(chosen.tensors.keys().all(|name| name.starts_with(prefix)));
        let chosen = chosen.without_prefixes();
        assert!(chosen.tensors.keys().eq(names), "{:?}", shapes(&chosen));
    }
    let teacher = read(&data("dino.pth"))?.select(Some("teacher"))?;
    let scoped = teacher.scoped("backbone").scoped("blocks.0");
    assert_eq!(f32s(&scoped, "weight")?, [100., 101., 102., 103., 104., 105., 106., 107.]);
    let loss = read(&data("dino.pth"))?.select(Some("dino_loss"))?;
    assert_eq!(shapes(&loss), [("center".to_string(), vec![1, 8])]);

    let absent = refusal(read(&data("dino.pth"))?.select(Some("ema")));
    assert!(
        absent.contains("no weights under the key `ema`") && absent.contains("student, teacher, optimizer, dino_loss"),
        "{absent}"
    );
    for key in ["epoch", "args"] {
        let outcome = read(&data("dino.pth"))?.select(Some(key));
        assert!(matches!(outcome, Err(WeightsError::NoSuchKey { .. })));
    }
    let outcome = read(&data("dino.pth"))?.select(Some("optimizer"));
    assert!(matches!(outcome, Err(WeightsError::NoTensors { .. })));
    Ok(())
}

#[test]
fn every_dict_of_tensors_is_a_place() -> Outcome {
    let file = read(&data("dino.pth"))?;
    let keys: Vec<Vec<String>> = file.places().into_iter().map(|place| place.keys).collect();
    assert!(keys.contains(&vec!["teacher".into()]) && keys.contains(&vec!["dino_loss".into()]), "{keys:?}");
    let teacher = file.at(&["teacher".into()])?;
    assert!(teacher.tensors.contains_key("backbone.cls_token"));
    assert!(matches!(read(&data("dino.pth"))?.at(&["ema".into()]), Err(WeightsError::NoSuchKey { .. })));
    // What has no dtype here is listed as well, and can be told apart.
    let file = read(&data("flat.pth"))?;
    assert!(file.places()[0].names.iter().any(|name| name == "mask"));
    assert_eq!(file.unread.get("mask").map(String::as_str), Some("BoolStorage"));
    Ok(())
}

/// As `torch.save` writes a tensor of 8-bit floats: an untyped storage, and the dtype beside it.
#[test]
fn numbers_of_eight_bits_are_named() -> Outcome {
    let pickle = |dtype: &[u8], rebuild: &[u8]| {
        [
            b"\x80\x02}X\x01\0\0\0wctorch._utils\n".as_slice(),
            rebuild,
            b"((X\x07\0\0\0storagectorch.storage\nUntypedStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x10tQ",
            b"K\0K\x02K\x02\x86K\x02K\x01\x86\x89ccollections\nOrderedDict\n)Rctorch\n",
            dtype,
            b"\ntRs.",
        ]
        .concat()
    };
    for (dtype, rebuild) in [
        ("float8_e4m3fn", &b"_rebuild_tensor_v3\n"[..]),
        ("float8_e5m2", b"_rebuild_tensor_v3\n"),
        ("uint16", b"_rebuild_tensor_v3\n"),
        ("qint8", b"_rebuild_qtensor\n"),
    ] {
        let found =
            read(&craft("eight.pth", &pickle(dtype.as_bytes(), rebuild))?).map_err(|e| format!("{dtype}: {e}"))?;
        assert!(found.tensors.is_empty());
        assert_eq!(found.unread.get("w").map(String::as_str), Some(dtype));
        assert!(found.notes.iter().any(|note| note.contains(dtype)), "{:?}", found.notes);
    }
    Ok(())
}

#[test]
fn files_that_are_not_taken_say_what_to_do() -> Outcome {
    let compressed = refusal(read(&data("deflated.pth")));
    assert!(compressed.contains("is compressed") && compressed.contains("torch.save"), "{compressed}");
    let legacy = refusal(read(&data("legacy.pth")));
    assert!(legacy.contains("save it again"), "{legacy}");
    let absent = read(&data("absent.pth"));
    assert!(matches!(absent, Err(WeightsError::Io { .. })));
    let path = scratch("text.pth");
    for bytes in [&b""[..], b"PK\x03\x04", b"<!DOCTYPE html><html></html>"] {
        fs::write(&path, bytes)?;
        let message = refusal(read(&path));
        assert!(message.contains("text.pth"), "{message}");
    }
    Ok(())
}

#[test]
fn a_crafted_tensor_is_read() -> Outcome {
    let path = craft("crafted.pth", &one_tensor(b"K\0K\x02K\x02\x86K\x02K\x01\x86"))?;
    assert_eq!(shapes(&read(&path)?), [("w".to_string(), vec![2, 2])]);
    Ok(())
}

/// `{"w": a tensor, "x": value}`, where the tensor has the storage `0` and `value` is given as pickle.
fn beside_a_tensor(value: &[u8]) -> Vec<u8> {
    let tensor = one_tensor(b"K\0K\x04\x85K\x01\x85");
    let end = tensor.len() - 2; // what sets the item and ends
    [&tensor[..end], b"sX\x01\0\0\0x", value, b"s."].concat()
}

/// What `torch.load(weights_only=True)` reads as well: beside the weights, and as weights with attributes.
#[test]
fn harmless_objects_of_checkpoints_are_passed_over() -> Outcome {
    for value in [
        &b"ccollections\nCounter\n}(K\x03K\x01u\x85R"[..],
        b"c__builtin__\nbytearray\nc_codecs\nencode\nX\x01\0\0\0xX\x06\0\0\0latin1\x86R\x85R",
        b"c__builtin__\nbytes\n)R",
        b"ctorch\ncomplex64\n",
    ] {
        let found = read(&craft("harmless.pth", &beside_a_tensor(value))?)?;
        assert_eq!(shapes(&found), [("w".to_string(), vec![4])]);
    }
    let layout = b"ctorch.serialization\n_get_layout\nX\x10\0\0\0torch.sparse_coo\x85R";
    for (value, what) in [
        ([b"ctorch._utils\n_rebuild_sparse_tensor\n", &layout[..], b"N\x86R"].concat(), "sparse tensor"),
        (
            b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n(ctorch\nfloat32\nK\x03\x85K\x01\x85\x89tR".to_vec(),
            "meta tensor",
        ),
    ] {
        let found = read(&craft("unread.pth", &beside_a_tensor(&value))?)?;
        assert_eq!(shapes(&found), [("w".to_string(), vec![4])]);
        assert_eq!(found.unread.get("x").map(String::as_str), Some(what));
        assert!(found.notes.join("").contains("`x`") && found.notes.join("").contains(what), "{:?}", found.notes);
        assert!(found.places()[0].names.contains(&"x".to_string()));
    }
    let plain = one_tensor(b"K\0K\x02K\x02\x86K\x02K\x01\x86");
    let attributed = |function: &str| {
        let text = plain.iter().map(|byte| char::from(*byte)).collect::<String>();
        let text = text
            .replace(
                "ctorch._utils\n_rebuild_tensor_v2\n(",
                &format!("ctorch._tensor\n_rebuild_from_type_v2\n(c{function}\nctorch\nTensor\n("),
            )
            .replace("tRs.", "t}X\u{4}\0\0\0noteX\u{2}\0\0\0histRs.");
        text.chars().map(|c| c as u8).collect::<Vec<u8>>()
    };
    let found = read(&craft("attributes.pth", &attributed("torch._utils\n_rebuild_tensor_v2"))?)?;
    assert_eq!(shapes(&found), [("w".to_string(), vec![2, 2])]);
    let nested = refusal(read(&craft("attributes.pth", &attributed("torch._tensor\n_rebuild_from_type_v2"))?));
    assert!(nested.contains("inside another"), "{nested}");
    Ok(())
}

/// `one_tensor` of the numbers 1, 2, 3, 4.
fn of_four(rest: &[u8]) -> Result<Weights, Box<dyn std::error::Error>> {
    let data: Vec<u8> = [1f32, 2., 3., 4.].iter().flat_map(|v| v.to_le_bytes()).collect();
    let entries = [("x/data.pkl", &one_tensor(rest)[..]), ("x/data/0", &data[..])];
    Ok(read(&craft_entries("four.pth", &entries)?)?)
}

#[test]
fn expanded_tensors_repeat_their_numbers() -> Outcome {
    // One number as 6, and two numbers as 3 rows.
    assert_eq!(f32s(&of_four(b"K\x01K\x02K\x03\x86K\0K\0\x86")?, "w")?, [2.; 6]);
    assert_eq!(f32s(&of_four(b"K\x02K\x03K\x02\x86K\0K\x01\x86")?, "w")?, [3., 4., 3., 4., 3., 4.]);
    for (rest, says) in [
        (&b"K\x03K\x03K\x02\x86K\0K\x01\x86"[..], "outside"),
        (b"K\0M\xff\xffM\xff\xff\x86K\0K\0\x86", "contiguous()"), // 16 GiB
    ] {
        let error = of_four(rest).map(drop).expect_err(says).to_string();
        assert!(error.contains(says) && error.contains("`w`"), "{error}");
    }
    Ok(())
}

#[test]
fn numbers_stored_with_the_opposite_sign_are_turned() -> Outcome {
    let with = |metadata: &[u8]| of_four(&[b"K\0K\x04\x85K\x01\x85\x89N", metadata].concat());
    assert_eq!(f32s(&with(b"}X\x03\0\0\0neg\x88s")?, "w")?, [-1., -2., -3., -4.]);
    assert_eq!(f32s(&with(b"}(X\x03\0\0\0neg\x89X\x04\0\0\0conj\x88u")?, "w")?, [1., 2., 3., 4.]);
    let unknown = with(b"}X\x03\0\0\0rot\x88s")?;
    assert!(unknown.tensors.is_empty() && unknown.unread["w"].contains("metadata"), "{:?}", unknown.unread);
    Ok(())
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_waited_for() -> Outcome {
    let pipe = scratch("pipe.pth");
    let _ = fs::remove_file(&pipe);
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status()?.success());
    for (path, what) in [(pipe.as_path(), "a named pipe, not a file"), (Path::new("/dev/null"), "a device, not a file")]
    {
        let message = refusal(read(path));
        assert!(message.contains(what) && message.contains(&path.display().to_string()), "{message}");
    }
    Ok(fs::remove_file(&pipe)?)
}

/// An archive laid out as `torch.save` does: every entry padded to 64 bytes, and at the end the record of a large
/// archive and its locator, which a small one does not need. `comment`: after all of it.
fn as_torch_writes(stem: &str, entries: &[(&str, &[u8])], comment: &[u8]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let name = format!("{stem}/{name}");
        let start = file.len() as u32;
        let padding = (64 - (file.len() + 30 + name.len() + 4) % 64) % 64;
        let mut crc = crc32fast::Hasher::new();
        crc.update(bytes);
        let size = (bytes.len() as u32).to_le_bytes();
        let shared = |version: &[u8], extra: u16| {
            let head = [version, &[0, 0, 8, 8, 0, 0, 0, 0, 0, 0]].concat();
            let lengths = [(name.len() as u16).to_le_bytes(), extra.to_le_bytes()].concat();
            [&head[..], &crc.clone().finalize().to_le_bytes(), &size, &size, &lengths].concat()
        };
        file.extend(b"PK\x03\x04");
        file.extend(shared(&[0], padding as u16 + 4).iter().skip(1));
        file.extend(name.as_bytes());
        file.extend([b'F', b'B', padding as u8, 0]);
        file.extend(vec![b'Z'; padding]);
        file.extend(*bytes);
        directory.extend(b"PK\x01\x02\0");
        directory.extend(shared(&[0], 0));
        directory.extend([0; 10]);
        directory.extend(start.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (at, size, count) = (file.len() as u64, directory.len() as u64, entries.len() as u64);
    let end = at + size;
    file.extend(directory);
    file.extend(b"PK\x06\x06");
    file.extend(44u64.to_le_bytes());
    file.extend([30, 3, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    [count, count, size, at].iter().for_each(|n| file.extend(n.to_le_bytes()));
    file.extend(b"PK\x06\x07\0\0\0\0");
    file.extend(end.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    file.extend(b"PK\x05\x06\0\0\0\0");
    [count as u16, count as u16].iter().for_each(|n| file.extend(n.to_le_bytes()));
    [size as u32, at as u32].iter().for_each(|n| file.extend(n.to_le_bytes()));
    file.extend((comment.len() as u16).to_le_bytes());
    file.extend(comment);
    file
}

/// The name of the folder inside decides how long the first entry of the directory is; of 21 bytes, it is as long
/// as the records at the end, and a reader that guesses where the archive begins goes wrong.
#[test]
fn the_name_inside_an_archive_does_not_matter() -> Outcome {
    let path = scratch("stems.pth");
    let pickle = one_tensor(b"K\0K\x02K\x02\x86K\x02K\x01\x86");
    let data: Vec<u8> = [1f32, 2., 3., 4.].iter().flat_map(|v| v.to_le_bytes()).collect();
    let entries: [(&str, &[u8]); 6] = [
        ("data.pkl", &pickle),
        (".format_version", b"1"),
        (".storage_alignment", b"64"),
        ("data/0", &data),
        ("version", b"3\n"),
        (".data/serialization_id", b"1234567890"),
    ];
    for length in 1..=64 {
        for comment in [&b""[..], b"saved elsewhere"] {
            fs::write(&path, as_torch_writes(&"s".repeat(length), &entries, comment))?;
            let found = read(&path).map_err(|e| format!("stem of {length} bytes: {e}"))?;
            assert_eq!(f32s(&found, "w")?, [1., 2., 3., 4.], "stem of {length} bytes");
        }
    }
    // Something before the archive is not torch's, nor read by torch.
    fs::write(&path, [b"#!/bin/sh\n", &as_torch_writes("s", &entries, b"")[..]].concat())?;
    assert!(read(&path).is_err());
    Ok(())
}

#[test]
fn safetensors_round_trip() -> Outcome {
    let path = scratch("round.safetensors");
    let tensors = sample()?;
    let metadata = [("recipe", "a \"quoted\"\nline"), ("arch", "vit_small")]
        .map(|(key, value)| (key.to_string(), value.to_string()));
    weights::write_safetensors(&path, &tensors, &metadata)?;
    let first = fs::read(&path)?;

    let found = read(&path)?;
    assert_eq!(found.metadata, BTreeMap::from(metadata.clone()));
    assert_eq!(found.tensors.len(), tensors.len());
    for (name, tensor) in &tensors {
        let back = found.tensors.get(name).ok_or("a name is missing")?;
        assert_eq!((back.dtype(), back.dims()), (tensor.dtype(), tensor.dims()));
        let values = |t: &Tensor| t.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
        assert_eq!(values(back)?, values(tensor)?);
    }
    let teacher = read(&path)?.select(None)?;
    assert!(teacher.tensors.keys().eq(["a", "b"]));
    assert_eq!(read(&path)?.select(Some("student"))?.tensors.len(), 8);
    let absent = refusal(read(&path)?.select(Some("ema")));
    assert!(absent.contains("student, teacher"), "{absent}");

    // The same contents in another order, over an existing file: the same bytes.
    let reversed: Vec<_> = tensors.iter().rev().cloned().collect();
    let [a, b] = metadata;
    weights::write_safetensors(&path, &reversed, &[b, a])?;
    assert_eq!(fs::read(&path)?, first);
    Ok(())
}

/// Without metadata (whose order it does not fix) the `safetensors` crate writes the same bytes.
#[test]
fn safetensors_bytes_equal_the_reference() -> Outcome {
    let path = scratch("reference.safetensors");
    let tensors = sample()?;
    weights::write_safetensors(&path, &tensors, &[])?;
    let reference = safetensors::serialize(tensors.iter().map(|(n, t)| (n, t)), None)?;
    assert!(fs::read(&path)? == reference);
    Ok(())
}

#[test]
fn a_failed_write_leaves_the_old_file() -> Outcome {
    let folder = scratch("atomic");
    fs::create_dir_all(&folder)?;
    let path = folder.join("kept.safetensors");
    let one = Tensor::ones(2, DType::F32, &Device::Cpu)?;
    weights::write_safetensors(&path, &[("a".into(), one.clone())], &[])?;
    let before = fs::read(&path)?;
    for names in [["a", "a"], ["a", "__metadata__"]] {
        let tensors = names.map(|name| (name.to_string(), one.clone()));
        let outcome = weights::write_safetensors(&path, &tensors, &[]);
        assert!(matches!(outcome, Err(WeightsError::Unwritable { .. })));
    }
    // A folder in the way makes the rename fail after the temporary file was written.
    let blocked = folder.join("blocked");
    fs::create_dir_all(blocked.join("inside"))?;
    let outcome = weights::write_safetensors(&blocked, &[("a".into(), one)], &[]);
    assert!(matches!(outcome, Err(WeightsError::Io { .. })));
    assert_eq!(fs::read(&path)?, before);
    let mut left: Vec<_> =
        fs::read_dir(&folder)?.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<_, _>>()?;
    left.sort();
    assert_eq!(left, ["blocked", "kept.safetensors"]);
    Ok(())
}

#[test]
fn strict_comparison_lists_everything() -> Outcome {
    let tensor = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
    let found = BTreeMap::from([
        ("fits".to_string(), tensor(&[2])?),
        ("reshaped".to_string(), tensor(&[2, 3])?),
        ("surplus".to_string(), tensor(&[1])?),
    ]);
    let mut expected = vec![("fits".to_string(), vec![2])];
    let origin = Path::new("some.pth");
    let fitting = BTreeMap::from([("fits".to_string(), tensor(&[2])?)]);
    weights::check_strict(&expected, &fitting, origin)?;

    expected.push(("reshaped".into(), vec![3, 2]));
    expected.extend((0..13).map(|i| (format!("absent.{i:02}"), vec![1])));
    let Err(WeightsError::Mismatch(difference)) = weights::check_strict(&expected, &found, origin) else {
        return Err("accepted".into());
    };
    assert_eq!(difference.missing.len(), 13);
    assert_eq!(difference.extra, ["surplus"]);
    let text = difference.to_string();
    for part in [
        "some.pth",
        "missing (13): absent.00, absent.01",
        "absent.09, … and 3 more",
        "extra (1): surplus",
        "reshaped [2, 3] instead of [3, 2]",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("absent.10"), "{text}");
    Ok(())
}

#[test]
fn prefixes_never_overwrite() -> Outcome {
    let path = scratch("prefixes.safetensors");
    let tensors: Vec<(String, Tensor)> = ["module.backbone.a", "backbone.b", "c", "module.c"]
        .iter()
        .map(|name| Ok((name.to_string(), Tensor::new(0f32, &Device::Cpu)?)))
        .collect::<candle_core::Result<_>>()?;
    weights::write_safetensors(&path, &tensors, &[])?;
    let found = read(&path)?.without_prefixes();
    assert!(found.tensors.keys().eq(["a", "b", "c", "module.c"]));
    Ok(())
}
