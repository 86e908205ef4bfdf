//! Settings: TOML files.

use selfpatch_train::{Config, Memory, Preset, resolve};
use std::path::Path;

/// Reads settings as those of a finished run and as a user's, checks them, and estimates the memory, also
/// of settings that are refused.
pub fn read(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let path = Path::new("settings.toml");
    let read = [Config::parse(path, &text), resolve(Preset::Default, Some((path, &text)), &[])];
    let mut accepted = false;
    for config in read.into_iter().flatten() {
        accepted |= config.check().is_ok();
        let estimate = Memory::of(&config, 1 << 40);
        accepted &= estimate.is_ok_and(|memory| memory.total() > 0);
    }
    accepted
}

/// Every recipe, and a short file as users write them.
pub fn seeds() -> anyhow::Result<Vec<Vec<u8>>> {
    let mut seeds = vec![b"seed = 3\n[optim]\nlr = 1e-3\nepochs = 7\n[data]\npath = \"photos\"\n".to_vec()];
    for (_, preset) in Preset::ALL {
        let mut config = preset.config();
        if config.data.path.is_empty() {
            config.data.path = "photos".into();
        }
        seeds.push(config.to_toml()?.into_bytes());
    }
    Ok(seeds)
}
