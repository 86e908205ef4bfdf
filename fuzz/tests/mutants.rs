//! A few mutants of every format: none panics, none takes long.

use selfpatch_fuzz::{FORMATS, trial};

#[test]
fn whole_files_are_accepted() -> anyhow::Result<()> {
    for format in FORMATS {
        for (i, seed) in (format.seeds)()?.iter().enumerate() {
            assert!((format.read)(seed), "{} {i}", format.name);
        }
    }
    Ok(())
}

#[test]
fn mutants_are_read_or_refused() -> anyhow::Result<()> {
    for format in FORMATS {
        let trial = trial::run(format, 1, 0..300, |_, _| Ok(()))?;
        let faults: Vec<String> = trial.faults.iter().map(|f| format!("{}: {}", f.number, f.what)).collect();
        assert!(faults.is_empty(), "{}: {faults:?}", format.name);
        // Mutants that all fare alike would test little.
        assert!(trial.accepted > 0 && trial.refused > 0, "{}: {} accepted", format.name, trial.accepted);
    }
    Ok(())
}
