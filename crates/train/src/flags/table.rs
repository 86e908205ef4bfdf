//! The table of flags: the only place where a flag is written.

use super::choices::choices;
use super::flag::Flag;
use super::flag::Group::{self, Data, Model, Objective, Optimisation, Run};
use super::flag::Takes::{self, Bool, Choice, Number, Pair, Text, Whole, Words};
use crate::config::{Aggregation, Algorithm, Border, Precision};

/// One row of the table of flags, whose order is that of the help.
const fn flag(group: Group, name: &'static str, place: &'static str, takes: Takes, help: &'static str) -> Flag {
    Flag { name, alias: None, place, takes, group, help }
}

/// The flag for the source of images, which more commands than `train` have.
pub const DATA: Flag = Flag {
    alias: Some("data-path"),
    ..flag(
        Data,
        "data",
        "data.path",
        Text("SOURCE"),
        "Images: a folder, a list (txt, csv, tsv), tar or parquet files, IDX or CIFAR files, videos, \
         hf://owner/name[@rev][#split]; or `procedural` for synthetic ones",
    )
};

/// The flags of `train` that set a field of the configuration, DINO's and SelfPatch's among them.
pub const FLAGS: [Flag; 46] = [
    DATA,
    flag(Data, "max-bad", "data.max_bad", Number, "Largest fraction of unusable images before the run stops"),
    flag(Data, "num-workers", "data.workers", Whole, "Threads that load and augment images; 0 for one per core"),
    flag(Data, "global-crops-size", "crops.globals.size", Whole, "Side of the global crops in pixels"),
    flag(Data, "global-crops-scale", "crops.globals.scale", Pair, "Area of a global crop as a fraction of the image"),
    flag(Data, "local-crops-number", "crops.local_count", Whole, "Local crops per image"),
    flag(Data, "local-crops-size", "crops.locals.size", Whole, "Side of the local crops in pixels"),
    flag(Data, "local-crops-scale", "crops.locals.scale", Pair, "Area of a local crop as a fraction of the image"),
    flag(
        Model,
        "arch",
        "model.arch",
        Choice(|| &crate::config::ARCHITECTURES),
        "Architecture; custom takes its width, depth and heads from model.embed_dim, model.depth and model.num_heads",
    ),
    flag(Model, "patch-size", "model.patch_size", Whole, "Side of a patch in pixels"),
    flag(Model, "drop-path-rate", "model.drop_path_rate", Number, "Stochastic-depth rate of the student's last block"),
    flag(Model, "out-dim", "head.out_dim", Whole, "Number of class prototypes"),
    flag(Model, "out-dim-selfpatch", "head.out_dim_selfpatch", Whole, "Number of patch prototypes"),
    flag(Model, "norm-last-layer", "head.norm_last_layer", Bool, "Fix the gain of the prototypes at 1"),
    flag(Model, "use-bn-in-head", "head.use_bn_in_head", Bool, "Batch norm in the projection heads"),
    flag(
        Objective,
        "lambda",
        "patch_loss.lambda",
        Number,
        "Weight of the patch loss; 0 trains DINO with SelfPatch's class-attention module and no patch loss",
    ),
    flag(Objective, "k-num", "patch_loss.k_num", Whole, "Positives per patch"),
    flag(Objective, "window", "patch_loss.window", Whole, "Side of a patch's neighbourhood in patches; odd"),
    flag(
        Objective,
        "border",
        "patch_loss.border",
        Choice(choices::<Border>),
        "How neighbourhoods end at the border of the grid: torus wraps around as the reference does, clipped cuts them off",
    ),
    flag(
        Objective,
        "matching",
        "patch_loss.matching",
        Bool,
        "Take the most similar neighbours as positives; false takes all of the neighbourhood",
    ),
    flag(
        Objective,
        "aggregation",
        "patch_loss.aggregation",
        Choice(choices::<Aggregation>),
        "What becomes a patch's target: its positives pooled by class attention (SelfPatch), their mean, or none of \
         them but the teacher's own patch",
    ),
    flag(
        Objective,
        "aggregation-depth",
        "patch_loss.aggregation_depth",
        Whole,
        "Number of class-attention blocks, which also make the class token",
    ),
    flag(
        Objective,
        "warmup-teacher-temp",
        "objective.warmup_teacher_temp",
        Number,
        "Temperature of the teacher at the start of its warm-up",
    ),
    flag(Objective, "teacher-temp", "objective.teacher_temp", Number, "Temperature of the teacher after its warm-up"),
    flag(
        Objective,
        "warmup-teacher-temp-epochs",
        "objective.warmup_teacher_temp_epochs",
        Whole,
        "Epochs over which the temperature of the teacher warms up",
    ),
    flag(
        Objective,
        "momentum-teacher",
        "optim.momentum_teacher",
        Number,
        "Momentum of the teacher's moving average at the start; it ends at 1",
    ),
    flag(
        Objective,
        "freeze-last-layer",
        "optim.freeze_last_layer",
        Whole,
        "Epochs at the start during which the prototypes stay as they are",
    ),
    flag(Optimisation, "optimizer", "optim.optimizer", Choice(choices::<Algorithm>), "Optimiser"),
    Flag {
        alias: Some("batch-size-per-gpu"),
        ..flag(Optimisation, "batch-size", "optim.batch_size", Whole, "Images per step")
    },
    flag(
        Optimisation,
        "accumulate",
        "optim.accumulate",
        Whole,
        "Parts in which the images of a step are taken; more parts need less memory, and the result stays the same up \
         to rounding",
    ),
    flag(
        Optimisation,
        "recompute",
        "optim.recompute",
        Bool,
        "Compute activations again in the backward pass instead of keeping them: less memory, about a tenth more time, \
         the same result",
    ),
    flag(
        Optimisation,
        "precision",
        "optim.precision",
        Choice(choices::<Precision>),
        "Number format in which layers and heads compute; with fp16 the loss is scaled",
    ),
    flag(
        Optimisation,
        "use-fp16",
        "optim.precision",
        Words(&[("true", "fp16"), ("false", "f32")]),
        "The published program's spelling: true is --precision fp16, false is --precision f32",
    ),
    flag(Optimisation, "epochs", "optim.epochs", Whole, "Passes over the data"),
    flag(
        Optimisation,
        "lr",
        "optim.lr",
        Number,
        "Peak learning rate for 256 images per step; the rate used is lr * batch_size / 256",
    ),
    flag(Optimisation, "min-lr", "optim.min_lr", Number, "Learning rate at the end; not scaled by the batch size"),
    flag(
        Optimisation,
        "warmup-epochs",
        "optim.warmup_epochs",
        Number,
        "Epochs of linear warm-up of the learning rate; where a preset's warm-up would fill the whole run, a tenth of it",
    ),
    flag(Optimisation, "weight-decay", "optim.weight_decay", Number, "Weight decay at the start"),
    flag(Optimisation, "weight-decay-end", "optim.weight_decay_end", Number, "Weight decay at the end"),
    flag(
        Optimisation,
        "clip-grad",
        "optim.clip_grad",
        Number,
        "Largest norm of the gradient of one parameter tensor; 0 for no clipping",
    ),
    flag(
        Run,
        "name",
        "name",
        Text("NAME"),
        "Name of the run, whose folder is runs/NAME; given alone, it continues that run [default: the name of the data]",
    ),
    flag(Run, "output-dir", "output_dir", Text("DIR"), "Folder of the run [default: runs/NAME]"),
    flag(
        Run,
        "init-from",
        "init_from",
        Text("PATH"),
        "Begin a new run with the weights of a backbone, a training checkpoint (.pth) or a run",
    ),
    flag(Run, "seed", "seed", Whole, "Seed of everything random"),
    flag(
        Run,
        "max-steps",
        "optim.max_steps",
        Whole,
        "Stop after this many steps, with the schedules of the full length [default: no limit]",
    ),
    flag(Run, "saveckp-freq", "checkpoint.every_epochs", Whole, "Epochs between checkpoints"),
];
