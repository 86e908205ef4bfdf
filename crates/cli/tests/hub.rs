//! `--weights hf://…` against a hub on the loopback interface.
#![cfg(feature = "hub")]

mod loopback;

use candle_core::{DType, Device};
use loopback::{COMMIT, Hub, Outcome, Served, alone, error, folder, nobody};
use selfpatch_nn::Params;
use selfpatch_vit::{Vit, VitConfig};
use selfpatch_weights as weights;
use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// Asks for another patch than the served file has: quickly refused, after it was read.
const MISFIT: [&str; 2] = ["--patch-size", "16"];
const MISFIT_ANSWER: &str = "safetensors has patches of 32 pixels";

/// The bytes of a small backbone's file.
fn backbone(folder: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let params = Params::frozen(0);
    Vit::new(&VitConfig::new(8, 1, 1, 32), params.builder(DType::F32, &Device::Cpu))?;
    let path = folder.join("made.safetensors");
    let tensors: Vec<_> = params.tensors().into_iter().collect();
    weights::write_safetensors(&path, &tensors, &[("num_heads".into(), "1".into())])?;
    Ok(std::fs::read(path)?)
}

/// Evaluates weights with a cache of its own.
fn selfpatch(cache: &Path, hub: SocketAddr, weights: &str) -> Command {
    let mut command = alone(cache, hub);
    command.args(["eval-davis", "--device", "cpu", "--weights", weights]);
    command
}

#[test]
fn fetches_once_and_then_works_offline() -> Outcome {
    let folder = folder("offline")?;
    let hub = Hub::start(
        [("/owner/name/resolve/main/deep/vit.safetensors".into(), Served::whole(&backbone(&folder)?))].into(),
    )?;
    let run = || selfpatch(&folder, hub.address, "hf://owner/name/deep/vit.safetensors");

    let first = error(&run().args(MISFIT).output()?);
    assert!(first.contains(MISFIT_ANSWER), "{first}");
    let path = "/owner/name/resolve/main/deep/vit.safetensors Bearer sesame";
    assert_eq!(hub.requests(), [format!("HEAD {path}"), format!("GET {path}")]);

    let second = error(&run().args(MISFIT).output()?);
    assert_eq!(second, first);
    assert!(hub.requests().is_empty());

    let mut run = run();
    drop(hub);
    let output = run.arg("--json").output()?;
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    assert!(report.is_object(), "{report}");
    Ok(())
}

#[test]
fn a_revision_is_asked_for() -> Outcome {
    let folder = folder("revision")?;
    let file = Served::whole(&backbone(&folder)?);
    let path = |revision: &str| format!("/o/n/resolve/{revision}/vit.safetensors");
    let hub = Hub::start([COMMIT, "pr%2F1"].map(|revision| (path(revision), file.clone())).into())?;
    for revision in ["pr%2F1", COMMIT] {
        let weights = format!("hf://o/n@{revision}/vit.safetensors");
        let e = error(&selfpatch(&folder, hub.address, &weights).args(MISFIT).output()?);
        assert!(e.contains(MISFIT_ANSWER), "{e}");
        let asked = hub.requests();
        if revision == COMMIT {
            // The branch's commit, so already here.
            assert!(asked.is_empty(), "{asked:?}");
        } else {
            assert_eq!(asked.len(), 2, "{asked:?}");
            assert!(asked.iter().all(|request| request.contains(&path(revision))), "{asked:?}");
        }
    }

    // A commit alone, into another cache.
    let (cache, weights) = (folder.join("other"), format!("hf://o/n@{COMMIT}/vit.safetensors"));
    for requests in [2, 0] {
        let e = error(&selfpatch(&cache, hub.address, &weights).args(MISFIT).output()?);
        assert!(e.contains(MISFIT_ANSWER), "{e}");
        assert_eq!(hub.requests().len(), requests);
    }
    Ok(())
}

#[test]
fn what_the_hub_has_not_is_an_error_until_it_has() -> Outcome {
    let folder = folder("absent")?;
    let hub = Hub::start(BTreeMap::new())?;
    let e = error(&selfpatch(&folder, hub.address, "hf://o/n/none.safetensors").output()?);
    let expected = "error: hf://o/n/none.safetensors: the hub answers 404 Not Found: no file none.safetensors at \
                    revision main of o/n, or no such revision or repository\n";
    assert_eq!(e, expected);

    let hub = Hub::start([("/o/n/resolve/main/none.safetensors".into(), Served::whole(&backbone(&folder)?))].into())?;
    let e = error(&selfpatch(&folder, hub.address, "hf://o/n/none.safetensors").args(MISFIT).output()?);
    assert!(e.contains(MISFIT_ANSWER), "{e}");
    Ok(())
}

#[test]
fn what_is_not_here_needs_the_hub() -> Outcome {
    let folder = folder("unreachable")?;
    let e = error(&selfpatch(&folder, nobody()?, "hf://o/n/w.safetensors").output()?);
    let expected = format!("hf://o/n/w.safetensors: is not in the cache {}, and the hub does not", folder.display());
    assert!(e.contains(&expected), "{e}");

    let e = error(&selfpatch(&folder, nobody()?, "hf://o/n/w.safetensors").env("HF_HUB_OFFLINE", "1").output()?);
    assert!(e.contains("HF_HUB_OFFLINE forbids"), "{e}");

    let mut run = selfpatch(&folder, nobody()?, "hf://o/n/w.safetensors");
    let e = error(&run.env("HF_ENDPOINT", "not an address").output()?);
    assert!(e.contains("is HF_ENDPOINT right?"), "{e}");
    Ok(())
}

#[test]
fn what_arrives_broken_is_not_kept() -> Outcome {
    let folder = folder("broken")?;
    let path = "/o/n/resolve/main/vit.safetensors";
    let whole = Served::whole(&backbone(&folder)?);
    let refused = Served { answer: ("403 Forbidden", b"no".to_vec()), ..whole.clone() };
    let mut flipped = whole.clone();
    if let Some(byte) = flipped.answer.1.last_mut() {
        *byte ^= 1;
    }
    for (file, says) in [
        (refused, format!("did not arrive whole: 2 bytes of {}; run again", whole.size)),
        (flipped, "did not arrive whole: its SHA-256 differs; run again".into()),
        (whole, MISFIT_ANSWER.into()),
    ] {
        let hub = Hub::start([(path.into(), file)].into())?;
        let e = error(&selfpatch(&folder, hub.address, "hf://o/n/vit.safetensors").args(MISFIT).output()?);
        assert!(e.contains(&says), "{e}");
        assert_eq!(hub.requests().len(), 2);
    }
    Ok(())
}

#[test]
fn malformed_names_are_refused_before_anything_is_asked() -> Outcome {
    let folder = folder("malformed")?;
    let hub = Hub::start(BTreeMap::new())?;
    let e = error(&selfpatch(&folder, hub.address, "hf://owner/w.safetensors").output()?);
    let form = "is not of the form hf://owner/name[@revision]/path/in/repo.safetensors";
    assert_eq!(e, format!("error: hf://owner/w.safetensors: {form}\n"));
    assert!(hub.requests().is_empty());
    Ok(())
}
