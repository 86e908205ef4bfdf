//! The image objective of a run, and whether the trainer can follow its plan.

use crate::settings::Settings;
use candle_core::{DType, Device, Result, bail};
use selfpatch_losses::{Dino, Head, Moves, NormOver, Objective, Plan, Target, Views};

/// The objective that the settings ask for, with the state of the first step.
///
/// # Errors
/// When the trainer cannot follow the plan of the objective.
pub(crate) fn objective(settings: &Settings, dtype: DType, device: &Device) -> Result<Box<dyn Objective>> {
    let mut dino = Dino::new(settings.network.class_head.out_dim, settings.center_momentum, dtype, device)?;
    dino.student_temp = settings.student_temp;
    (dino.globals, dino.temperature) = (settings.globals, settings.teacher_temp);
    dino.freeze_epochs = settings.freeze_epochs;
    check(&dino.plan(), settings.accumulate)?;
    Ok(Box::new(dino))
}

/// Refuses a plan with anything that this trainer does not do; `accumulate`: parts of a step.
fn check(plan: &Plan, accumulate: usize) -> Result<()> {
    let moves = Target::Average { views: Views::All, moves: Moves::AfterStep };
    for (can, what) in [
        (plan.online == Views::All, format!("sends {:?} through the trained network, not all views", plan.online)),
        (plan.target == moves, format!("wants the target {:?}, not {moves:?}", plan.target)),
        (plan.projector == Head::Dino, format!("wants the projector {:?}, not DINO's", plan.projector)),
        (plan.predictor.is_none(), "wants a predictor".into()),
        (plan.norm == NormOver::All, format!("wants batch norms over each {:?}, not over all views", plan.norm)),
        (!plan.unit_prototypes, "wants prototypes that are brought to unit length before each step".into()),
        (
            !plan.whole_batch || accumulate <= 1,
            format!("compares the images of a whole step, which optim.accumulate = {accumulate} takes in parts"),
        ),
    ] {
        if !can {
            bail!("the trainer cannot follow this objective: its plan {what}")
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfpatch_losses::Mlp;

    #[test]
    fn what_the_trainer_does_not_do_is_refused_by_name() -> Result<()> {
        let plan = Dino::new(8, 0.9, DType::F32, &Device::Cpu)?.plan();
        check(&plan, 2)?;
        let mlp = || Mlp { layers: Vec::new(), prototypes: None };
        let before = Target::Average { views: Views::All, moves: Moves::BeforeTarget };
        type Change<'a> = &'a dyn Fn(&mut Plan);
        let changes: [(&str, Change); 8] = [
            ("One(0)", &|p| p.online = Views::One(0)),
            ("BeforeTarget", &|p| p.target = before),
            ("StopGradient", &|p| p.target = Target::StopGradient),
            ("the projector Mlp", &|p| p.projector = Head::Mlp(mlp())),
            ("a predictor", &|p| p.predictor = Some(mlp())),
            ("each View", &|p| p.norm = NormOver::View),
            ("unit length", &|p| p.unit_prototypes = true),
            ("optim.accumulate = 2", &|p| p.whole_batch = true),
        ];
        for (word, change) in changes {
            let mut plan = plan.clone();
            change(&mut plan);
            let error = check(&plan, 2).expect_err(word).to_string();
            assert!(error.contains(word), "{error}");
        }
        // A step that is not taken in parts has the whole batch.
        check(&Plan { whole_batch: true, ..plan }, 1)
    }
}
