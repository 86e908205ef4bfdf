//! The same probe by PyTorch, on the same features, where `SELFPATCH_PYTHON` (or `python3`) has it.

mod common;

use candle_core::Device;
use common::{CLASSES, WIDTH, config, encode, sets};
use selfpatch_finetune::linear::{FOLDER, Subject, run};
use selfpatch_run::{Error, Resume, Session};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

/// Trains by DINO's rule with the rate that was chosen, in an order of its own, and prints the accuracy.
const SCRIPT: &str = r#"
import json, math, struct, sys, torch

def read(path):
    data = open(path, "rb").read()
    size, = struct.unpack("<Q", data[:8])
    names = json.loads(data[8:8 + size])
    def tensor(name, dtype):
        a, b = names[name]["data_offsets"]
        return torch.frombuffer(bytearray(data[8 + size + a:8 + size + b]), dtype=dtype).reshape(names[name]["shape"])
    return tensor("features", torch.float32), tensor("labels", torch.int64)

folder, classes, rate, batch, epochs = sys.argv[1], *map(float, sys.argv[2:])
batch, epochs = int(batch), int(epochs)
torch.manual_seed(0)
(x, y), (vx, vy) = read(folder + "/train.safetensors"), read(folder + "/val.safetensors")
layer = torch.nn.Linear(x.shape[1], int(classes))
torch.nn.init.normal_(layer.weight, 0, 0.01)
torch.nn.init.zeros_(layer.bias)
sgd = torch.optim.SGD(layer.parameters(), lr=rate * batch / 256, momentum=0.9)
for epoch in range(epochs):
    for group in sgd.param_groups:
        group["lr"] = rate * batch / 256 * (1 + math.cos(math.pi * epoch / epochs)) / 2
    for chosen in torch.randperm(len(x)).split(batch):
        loss = torch.nn.functional.cross_entropy(layer(x[chosen]), y[chosen])
        sgd.zero_grad()
        loss.backward()
        sgd.step()
print((layer(vx).argmax(1) == vy).double().mean().item())
"#;

#[test]
fn pytorch_scores_within_half_a_point() -> Result<(), Error> {
    let python = std::env::var("SELFPATCH_PYTHON").unwrap_or("python3".into());
    let import = Command::new(&python).args(["-c", "import torch"]).stderr(Stdio::null()).status();
    if !import.is_ok_and(|status| status.success()) {
        eprintln!("skipped: {python} has no torch");
        return Ok(());
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (sets, config) = (sets(1024, 2048), config(folder.path(), 40));
    let stop = AtomicBool::new(false);
    let session = Session { overwrite: false, resume: Resume::Auto, overrides: &[], asked: &[], stop: &stop };
    let subjects = [Subject { name: "", encode: &encode, width: WIDTH }];
    let verdict = run(&config, &session, &sets, &subjects, &Device::Cpu, &mut |_| ())?;
    let row = verdict.rows.first().expect("a row");
    let numbers = [CLASSES as f64, row.rate, config.optim.batch_size as f64, config.optim.epochs as f64];
    let output = Command::new(&python)
        .args(["-c", SCRIPT])
        .arg(config.output_dir.join(FOLDER))
        .args(numbers.map(|n| n.to_string()))
        .output()
        .expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let theirs: f64 = text.trim().parse().expect("an accuracy");
    println!("top-1: {:.2} here, {:.2} by PyTorch", 100. * row.top1, 100. * theirs);
    // Neither guessing nor perfect: the comparison could fail.
    assert!((0.3..0.95).contains(&row.top1), "{}", row.top1);
    assert!((row.top1 - theirs).abs() <= 0.005, "{} here, {theirs} by PyTorch", row.top1);
    Ok(())
}
