//! `--data hf://…` against a hub on the loopback interface.
#![cfg(feature = "hub")]

mod loopback;
#[path = "common/tar.rs"]
mod tar;

use loopback::{COMMIT, Hub, Outcome, Served, alone, error, folder, nobody};
use selfpatch_datasets::{Mask, write_mask};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// Six images of two classes in the layout of the hub's library, written by pyarrow.
const PARQUET: &[u8] = include_bytes!("loopback/images.parquet");

/// A step of a small network.
const STEP: &str = "train --device cpu --preset default --overwrite --name run --max-steps 1 --batch-size 2 --set \
                    model.embed_dim=24 --set model.depth=1 --set head.hidden_dim=16 --out-dim 32 \
                    --out-dim-selfpatch 16 --data";

fn selfpatch(cache: &Path, hub: SocketAddr, data: &str) -> Command {
    let mut command = alone(cache, hub);
    command.current_dir(cache).args(STEP.split_whitespace()).arg(data);
    command
}

/// What a run that must work says.
fn lines(command: &mut Command) -> Result<String, Box<dyn std::error::Error>> {
    let output = command.output()?;
    assert!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

fn image(folder: &Path, name: &str) -> Result<Served, Box<dyn std::error::Error>> {
    let path = folder.join(name);
    write_mask(&path, &Mask { width: 24, height: 24, ids: vec![1; 24 * 24] })?;
    Ok(Served::whole(&std::fs::read(path)?))
}

/// What a hub serves of the data set `o/n`.
#[derive(Default)]
struct DataSet(BTreeMap<String, Served>);

impl DataSet {
    fn with(mut self, revision: &str, files: &[(&str, Served)]) -> Self {
        let names = files.iter().map(|(name, _)| format!(r#"{{"rfilename":"{name}"}}"#)).collect::<Vec<_>>().join(",");
        let info = format!(r#"{{"id":"o/n","sha":"{COMMIT}","siblings":[{names}]}}"#);
        self.0.insert(format!("/api/datasets/o/n/revision/{revision}"), Served::whole(info.as_bytes()));
        // By commit: a branch may move between two files.
        let at = |name: &str| format!("/datasets/o/n/resolve/{COMMIT}/{name}");
        self.0.extend(files.iter().map(|(name, file)| (at(name), file.clone())));
        self
    }

    fn refusing(mut self, revision: &str, status: &'static str) -> Self {
        let answer = Served { answer: (status, b"{}".to_vec()), ..Served::whole(b"") };
        self.0.insert(format!("/api/datasets/o/n/revision/{revision}"), answer);
        self
    }

    fn start(self) -> std::io::Result<Hub> {
        Hub::start(self.0)
    }
}

fn parquet() -> Served {
    Served::whole(PARQUET)
}

#[test]
fn a_split_is_fetched_once_and_then_works_offline() -> Outcome {
    let folder = folder("data-offline")?;
    let files =
        ["README.md", "data/train-00001-of-00002.parquet", "data/train-00000-of-00002.parquet", "data/test-0.parquet"];
    let set = DataSet::default().with("main", &files.map(|name| (name, parquet())));
    let hub = set.start()?;
    let first = lines(&mut selfpatch(&folder, hub.address, "hf://o/n"))?;
    assert!(first.contains("12 images per epoch"), "{first}");
    assert!(first.contains("fetching hf://o/n (files: 2)"), "{first}");
    let file = |n| format!("/datasets/o/n/resolve/{COMMIT}/data/train-0000{n}-of-00002.parquet Bearer sesame");
    let requests = hub.requests();
    assert_eq!(requests[0], "GET /api/datasets/o/n/revision/main Bearer sesame");
    // The second file has the content of the first, which is kept once.
    assert_eq!(requests[1..], [format!("HEAD {}", file(0)), format!("GET {}", file(0)), format!("HEAD {}", file(1))]);

    // The other split, and the first again.
    let test = lines(&mut selfpatch(&folder, hub.address, "hf://datasets/o/n#test"))?;
    assert!(test.contains("6 images per epoch"), "{test}");
    assert_eq!(hub.requests().len(), 2);
    let second = lines(&mut selfpatch(&folder, hub.address, "hf://datasets/o/n@main#train"))?;
    assert!(second.contains("12 images per epoch") && !second.contains("fetching"), "{second}");
    assert!(hub.requests().is_empty());

    drop(hub);
    for offline in ["0", "1"] {
        let mut run = selfpatch(&folder, nobody()?, "hf://o/n#test");
        let third = lines(run.env("HF_HUB_OFFLINE", offline))?;
        assert!(third.contains("6 images per epoch"), "{third}");
    }
    Ok(())
}

#[test]
fn a_revision_and_a_folder_are_asked_for() -> Outcome {
    let folder = folder("data-revision")?;
    let files = ["a/train/0.parquet", "b/train/0.parquet", "b/test/0.parquet"].map(|name| (name, parquet()));
    let hub = DataSet::default().with("pr%2F1", &files).start()?;
    let both = lines(&mut selfpatch(&folder, hub.address, "hf://o/n@pr%2F1"))?;
    assert!(both.contains("12 images per epoch"), "{both}");
    assert!(both.contains("takes all of a/train, b/train; #FOLDER/train takes one"), "{both}");
    let one = lines(&mut selfpatch(&folder, hub.address, "hf://o/n@pr%2F1#b/train"))?;
    assert!(one.contains("6 images per epoch"), "{one}");

    let e = error(&selfpatch(&folder, hub.address, "hf://o/n@pr%2F2").output()?);
    assert_eq!(e, "error: data: hf://o/n@pr%2F2: the data set has no revision pr/2\n");
    Ok(())
}

#[test]
fn what_the_hub_converted_is_taken() -> Outcome {
    let folder = folder("data-converted")?;
    let own = [("data.zip", Served::whole(b"PK")), ("README.md", Served::whole(b"#"))];
    let converted = ["default/train/0000.parquet", "default/partial-test/0000.parquet"].map(|name| (name, parquet()));
    let set = || DataSet::default().with("main", &own).with("refs%2Fconvert%2Fparquet", &converted);
    let hub = set().start()?;
    let run = lines(&mut selfpatch(&folder, hub.address, "hf://o/n"))?;
    assert!(run.contains("6 images per epoch"), "{run}");
    let e = error(&selfpatch(&folder, hub.address, "hf://o/n#test").output()?);
    assert_eq!(e, "error: data: hf://o/n#test: the data set has no split test, but train\n");

    // Of another revision nothing is converted.
    let hub = set().with("v1", &own).start()?;
    let e = error(&selfpatch(&folder, hub.address, "hf://o/n@v1").output()?);
    assert_eq!(e, "error: data: hf://o/n@v1: the data set has no parquet files, tar files or images\n");
    assert_eq!(hub.requests().len(), 1);
    Ok(())
}

#[test]
fn what_is_not_there_is_told() -> Outcome {
    let folder = folder("data-absent")?;
    let run = |hub: &Hub, data: &str| selfpatch(&folder, hub.address, data).output().map(|output| error(&output));
    let files = ["data/train-0.parquet", "data/validation-0.parquet", "test.png"].map(|name| (name, parquet()));
    let hub = DataSet::default().with("main", &files).start()?;
    let e = run(&hub, "hf://o/n#test")?;
    assert_eq!(e, "error: data: hf://o/n#test: the data set has no split test, but train, validation\n");

    for (status, says) in [
        ("401 Unauthorized", "the hub wants a token (HF_TOKEN), or there is no such repository"),
        ("403 Forbidden", "the hub refuses access; the repository may want its terms accepted"),
        (
            "404 Not Found\r\nX-Error-Code: RepoNotFound",
            "the hub has no such data set, or does not show it to you (HF_TOKEN)",
        ),
        ("404 Not Found", "the data set has no revision main"),
    ] {
        let hub = DataSet::default().refusing("main", status).start()?;
        assert_eq!(run(&hub, "hf://o/n")?, format!("error: data: hf://o/n: {says}\n"));
    }

    // A file that is listed and then not there.
    let mut set = DataSet::default().with("main", &files);
    set.0.retain(|path, _| !path.ends_with("train-0.parquet"));
    let e = run(&set.start()?, "hf://o/n")?;
    assert!(e.contains("hf://datasets/o/n/data/train-0.parquet: the hub answers 404 Not Found"), "{e}");

    // Nobody there.
    let e = error(&selfpatch(&folder, nobody()?, "hf://o/n").output()?);
    let says = format!("data: hf://o/n: is not in the cache {}, and the hub does not answer (", folder.display());
    assert!(e.contains(&says) && e.lines().count() == 1, "{e}");
    let e = error(&selfpatch(&folder, nobody()?, "hf://o/n").env("HF_HUB_OFFLINE", "1").output()?);
    assert_eq!(e, "error: data: hf://o/n: was not fetched before, and HF_HUB_OFFLINE forbids to ask the hub\n");
    let e = error(&selfpatch(&folder, nobody()?, "hf://o").output()?);
    assert_eq!(e, "error: data: hf://o: is not of the form hf://owner/name[@revision][#split]\n");
    Ok(())
}

#[test]
fn names_that_lead_out_of_the_cache_are_refused() -> Outcome {
    let folder = folder("data-hostile")?;
    for name in ["../../train.parquet", "/train.parquet", "a//train.parquet"] {
        let hub = DataSet::default().with("main", &[(name, parquet())]).start()?;
        let e = error(&selfpatch(&folder, hub.address, "hf://o/n").output()?);
        assert!(e.contains(&format!("o/n/{name}: cannot be the name of a file in the cache")), "{e}");
        assert_eq!(hub.requests().len(), 1);
    }
    Ok(())
}

#[test]
fn images_and_tar_files_are_fetched() -> Outcome {
    let folder = folder("data-images")?;
    let png = image(&folder, "x.png")?;
    let names = ["train/cat/a.png", "train/cat/b.png", "train/dog/c.png", "train/dog/d.png", "test/cat/e.png"];
    let hub = DataSet::default().with("main", &names.map(|name| (name, png.clone()))).start()?;
    let run = lines(&mut selfpatch(&folder, hub.address, "hf://o/n"))?;
    assert!(run.contains("4 images per epoch"), "{run}");

    let cache = folder.join("other");
    std::fs::create_dir(&cache)?;
    let tar = Served::whole(&tar::tar((0..6).map(|i| (format!("{i}.png"), &png.answer.1[..]))));
    let hub = DataSet::default().with("main", &[("0.tar", tar), ("preview.png", png)]).start()?;
    let run = lines(&mut selfpatch(&cache, hub.address, "hf://o/n"))?;
    assert!(run.contains("6 images per epoch"), "{run}");
    Ok(())
}

#[test]
fn the_token_comes_from_where_the_hubs_own_tools_keep_it() -> Outcome {
    let folder = folder("data-token")?;
    std::fs::write(folder.join("token"), "at-home\n")?;
    std::fs::write(folder.join("elsewhere"), "from-path\n")?;
    let elsewhere = folder.join("elsewhere").display().to_string();
    let hub = DataSet::default().with("main", &[]).start()?;
    for (variables, token) in [
        (vec![("HF_TOKEN", "mine")], " Bearer mine"),
        (vec![("HF_TOKEN", " mine\n"), ("HF_TOKEN_PATH", &elsewhere)], " Bearer mine"),
        (vec![("HF_TOKEN", ""), ("HF_TOKEN_PATH", &elsewhere)], " Bearer from-path"),
        (vec![("HF_TOKEN", "")], " Bearer at-home"),
        (vec![("HF_TOKEN", "mine\n"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")], ""),
    ] {
        let e = error(&selfpatch(&folder, hub.address, "hf://o/n").envs(variables).output()?);
        assert_eq!(e, "error: data: hf://o/n: the data set has no parquet files, tar files or images\n");
        assert_eq!(hub.requests()[0], format!("GET /api/datasets/o/n/revision/main{token}"));
    }
    Ok(())
}
