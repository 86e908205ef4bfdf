//! A backbone found in a weight file: the one place that knows keys, prefixes, names and tensors beside the backbone.

use crate::input::Stated;
use crate::place::{self, Naming};
use crate::position::Rule;
use crate::rename::{Role, SWIGLU, may_be_beside, role};
use crate::{Vit, VitConfig};
use candle_core::{DType, Device, Result as Computed, Tensor};
use selfpatch_nn::Params;
use selfpatch_weights::{WeightsError, check_strict, read};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The backbone of a weight file under the names of DINO and timm, in f32, and what was found beside it.
///
/// [`Vit::new`] on [`Pretrained::config`] asks for exactly these tensors. Parameters that a file keeps in another
/// form are converted without changing what is computed: separate queries, keys and values become one matrix; the
/// gains of LayerScale are multiplied into the weights of the layer before them; positions of tokens other than
/// patches are added to these tokens.
#[derive(Debug)]
pub struct Pretrained {
    /// The file.
    pub path: PathBuf,
    /// Shapes, heads, epsilon and rule for positions.
    pub config: VitConfig,
    /// The parameters by name, f32.
    pub tensors: BTreeMap<String, Tensor>,
    /// The keys and the prefix behind which the backbone was found, such as `teacher.module.backbone`; may be empty.
    pub place: String,
    /// Keys of other backbones in the file.
    pub others: Vec<String>,
    /// How its tensors were called.
    pub naming: Naming,
    /// Tensors of the same network that do not belong to the backbone, such as `head.mlp.0.weight`.
    pub beside: BTreeMap<String, Tensor>,
    /// What the file, or one beside it, states of heads, epsilon and images.
    pub stated: Stated,
    /// Assumptions and conversions made on reading, in words, one each.
    pub notes: Vec<String>,
}

impl Pretrained {
    /// Finds the backbone of a safetensors or `.pth` file.
    ///
    /// `key` picks one of several networks: `teacher`, `student` (DINO's `--checkpoint-key`), `base_encoder`, or
    /// several parts with dots; without it the first existing one of `teacher`, `student`, `state_dict`, `model`,
    /// `base_encoder`, `momentum_encoder` is taken, otherwise the only one. Prefixes in any nesting are recognised.
    /// `num_heads` of 0 takes the number that the file or `config.json` beside it states, otherwise one head per 64
    /// channels.
    ///
    /// # Errors
    /// A file that cannot be read; a key that does not exist; a model of another kind, which is named; names or
    /// shapes that do not match, listed; a number of heads other than the stated one.
    pub fn read(path: &Path, key: Option<&str>, num_heads: usize, device: &Device) -> Result<Self, WeightsError> {
        let refused = |reason: String| WeightsError::Backbone { path: path.into(), reason };
        let fail = |e| WeightsError::Model { path: path.into(), source: Box::new(e) };
        let file = read(path, device)?;
        let (found, others) = place::find(&file, key)?;
        let mut notes = Vec::new();
        if key.is_some() && found.path().is_empty() {
            notes.push("holds one backbone and no keys; --checkpoint-key was not needed".to_string());
        }
        let metadata = Stated::of_metadata(&file.metadata).map_err(refused)?;
        let place = file.at(&found.keys)?;

        // The network that the backbone is a part of, without the other backbones in it.
        let parent =
            found.prefix.trim_end_matches('.').rsplit_once('.').map_or(String::new(), |(p, _)| format!("{p}."));
        let rivals: Vec<&String> = others.iter().filter(|o| o.keys == found.keys).map(|o| &o.prefix).collect();
        let is_rival = |name: &str| rivals.iter().any(|rival| name.starts_with(rival.as_str()));
        let mut parts: BTreeMap<String, Tensor> = BTreeMap::new();
        let mut thirds: BTreeMap<String, [Option<Tensor>; 3]> = BTreeMap::new();
        let mut beside = BTreeMap::new();
        for (name, tensor) in &place.tensors {
            let Some(own) = name.strip_prefix(&found.prefix) else {
                if let Some(name) = name.strip_prefix(&parent).filter(|_| !is_rival(name)) {
                    beside.insert(name.to_string(), tensor.clone());
                }
                continue;
            };
            match role(own, found.naming) {
                Role::Beside => drop(beside.insert(own.to_string(), tensor.clone())),
                Role::Refused(reason) => return Err(refused(format!("`{name}`: {reason}"))),
                Role::Part(_) if may_be_beside(own) && (tensor.rank() == 0 || float(tensor).is_err()) => {
                    beside.insert(own.to_string(), tensor.clone());
                }
                Role::Part(part) => {
                    let tensor = float(tensor).map_err(|kind| refused(unreadable(&[name], &kind)))?;
                    if parts.insert(part.clone(), tensor).is_some() {
                        return Err(refused(format!("two tensors are {part}, one of them `{name}`")));
                    }
                }
                Role::Third(whole, which) => {
                    let tensor = float(tensor).map_err(|kind| refused(unreadable(&[name], &kind)))?;
                    if let Some(third) = thirds.entry(whole).or_default().get_mut(which) {
                        *third = Some(tensor);
                    }
                }
            }
        }
        let needed = |name: &&String| {
            name.strip_prefix(&found.prefix).is_some_and(|own| role(own, found.naming) != Role::Beside)
        };
        let (passed, unread): (Vec<&String>, Vec<&String>) = place
            .unread
            .keys()
            .partition(|name| !needed(name) || name.strip_prefix(&found.prefix).is_some_and(may_be_beside));
        if !passed.is_empty() {
            let first = passed.iter().take(5).map(|name| format!("`{name}` ({})", place.unread[*name]));
            let more = passed.len().saturating_sub(5);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            notes.push(format!("not read, and not needed: {}{more}", first.collect::<Vec<_>>().join(", ")));
        }
        if let Some(kind) = unread.first().and_then(|name| place.unread.get(*name)) {
            return Err(refused(unreadable(&unread, kind)));
        }
        for (name, third) in thirds {
            let [Some(q), Some(k), Some(v)] = third else {
                return Err(refused(format!(
                    "{name}: of queries, keys and values some have this tensor and some have not, which is not computed here"
                )));
            };
            parts.insert(name, Tensor::cat(&[q, k, v], 0).map_err(fail)?);
        }

        if parts.get("patch_embed.proj.weight").is_some_and(|t| t.rank() == 5) {
            return Err(refused(VIDEO.into()));
        }
        let rule = match (found.naming, parts.contains_key("reg_token") || parts.contains_key("register_tokens")) {
            (_, true) => Rule::Timm,
            (Naming::Transformers, false) => Rule::Transformers,
            (Naming::Timm, false) => Rule::Dino,
        };
        fold_scales(&mut parts, &mut notes).map_err(fail)?;
        fold_positions(&mut parts, &mut notes).map_err(|e| match e {
            Fold::Refused(reason) => refused(reason),
            Fold::Failed(e) => fail(e),
        })?;
        for (weight, reason) in [("norm1", BARE_NORM), ("attn.proj", BARE_LAYER)] {
            let name = |kind| format!("blocks.0.{weight}.{kind}");
            if parts.contains_key(&name("weight")) && !parts.contains_key(&name("bias")) {
                return Err(refused(format!("there is no `{}`: {reason}", name("bias"))));
            }
        }
        is_gated(&parts).map_or(Ok(()), |name| Err(refused(format!("`{name}`: {SWIGLU}"))))?;

        let mut config = VitConfig::of_weights(&parts, num_heads.max(1)).map_err(fail)?;
        let stated = match metadata.num_heads {
            Some(_) => metadata,
            None => Stated::beside(path, config.embed_dim, config.depth).map_err(refused)?,
        };
        config.num_heads = heads(num_heads, &stated, &config, &mut notes).map_err(refused)?;
        config.norm_eps = stated.norm_eps.unwrap_or(match found.naming {
            Naming::Timm => 1e-6,
            // Dinov2 of transformers has norm1 and LayerScale, ViT and its kin have layernorm_before.
            Naming::Transformers if place.tensors.keys().any(|name| name.contains("layernorm_before")) => 1e-12,
            Naming::Transformers => 1e-6,
        });
        if found.naming == Naming::Transformers && stated.norm_eps.is_none() {
            notes.push(format!(
                "there is no config.json of it beside it: norms are taken to add {:e} to the variance",
                config.norm_eps
            ));
        }
        config.positions = rule;
        for (what, stated, found) in
            [("patches of", stated.patch_size, config.patch_size), ("channels:", stated.channels, config.in_channels)]
        {
            if let Some(stated) = stated.filter(|stated| *stated != found) {
                return Err(refused(format!("is stated to have {what} {stated}, but its tensors have {found}")));
            }
        }
        config.validate().map_err(fail)?;
        let params = Params::frozen(0);
        Vit::new(&config, params.builder(DType::F32, device)).map_err(fail)?;
        check_strict(&params.shapes(), &parts, path)?;
        Ok(Self {
            path: path.into(),
            config,
            tensors: parts,
            place: found.path(),
            others: others.iter().map(place::Candidate::path).collect(),
            naming: found.naming,
            beside,
            stated,
            notes,
        })
    }

    /// The backbone itself, in f32.
    pub fn vit(&self, device: &Device) -> Result<Vit, WeightsError> {
        let fail = |e| WeightsError::Model { path: self.path.clone(), source: Box::new(e) };
        let params = Params::frozen(0);
        let vit = Vit::new(&self.config, params.builder(DType::F32, device)).map_err(fail)?;
        params.load(&self.tensors, &self.path)?;
        Ok(vit.with_stated(self.stated.clone()))
    }

    /// The tensors beside the backbone that features do not use, by the first part of their names with their number:
    /// `head.* (9 tensors)`. Empty if there are none.
    pub fn left_out(&self) -> String {
        summary(self.beside.keys().map(String::as_str))
    }

    /// A summary of what was read, in one line without the file's name.
    pub fn told(&self) -> String {
        let c = &self.config;
        let place = if self.place.is_empty() { String::new() } else { format!("{}: ", self.place) };
        let mut text = format!(
            "{place}{} blocks of width {}, {} heads, patches of {} pixels, positions for {} x {}",
            c.depth,
            c.embed_dim,
            c.num_heads,
            c.patch_size,
            c.table_side(),
            c.table_side()
        );
        if c.registers > 0 {
            text += &format!(", {} more tokens", c.registers);
        }
        text += &format!("; {}", self.naming.words());
        if !self.beside.is_empty() {
            text += &format!("; left out: {}", self.left_out());
        }
        if !self.others.is_empty() {
            let others: Vec<String> = self.others.iter().map(|path| format!("`{path}`")).collect();
            text += &format!("; --checkpoint-key chooses another backbone: {}", others.join(", "));
        }
        text
    }
}

const VIDEO: &str = "its patches have a length in time (VideoMAE, ViViT): it takes videos; take a ViT of images, such as DINO, \
                     DINOv2, MAE or DeiT";
const BARE_NORM: &str = "its norms only scale (RMSNorm, or LayerNorm without biases), which is not computed here; take a plain \
                         ViT, such as DINO, DINOv2, MAE or DeiT";
const BARE_LAYER: &str = "its layers have no biases (proj_bias=False of timm), and this backbone has them; add biases of zeros, \
                          which change nothing, and save it again";

/// Groups names by their first part, as in `head.* (9 tensors)`; single names stay as they are.
pub fn summary<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut groups: BTreeMap<String, usize> = BTreeMap::new();
    for name in names {
        let group = name.split_once('.').map_or(name.to_string(), |(first, _)| format!("{first}.*"));
        *groups.entry(group).or_default() += 1;
    }
    let one = |(group, count): (String, usize)| match count {
        1 => format!("{group} (1 tensor)"),
        count => format!("{group} ({count} tensors)"),
    };
    groups.into_iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The tensor in f32; for a dtype that is not floating point, an error with the name of the dtype.
fn float(tensor: &Tensor) -> Result<Tensor, String> {
    match tensor.dtype() {
        DType::F16 | DType::BF16 | DType::F32 | DType::F64 => tensor.to_dtype(DType::F32).map_err(|e| e.to_string()),
        other => Err(other.as_str().to_string()),
    }
}

fn unreadable(names: &[&String], kind: &str) -> String {
    let more = if names.len() > 1 { format!(" and {} more", names.len() - 1) } else { String::new() };
    let first = names.first().map_or("", |name| name.as_str());
    if kind.ends_with(" tensor") {
        return format!(
            "`{first}`{more}: is a {kind}, which is not read; save the weights as dense tensors, which hold their numbers (in \
             PyTorch `.to_dense()`)"
        );
    }
    format!(
        "`{first}`{more}: stored as {}, which is not read; save the weights as f32, f16 or bf16 (in PyTorch `.float()`, after \
         dequantising them if they are quantised integers)",
        in_words(kind)
    )
}

/// The common name of a dtype, in addition to its name in the file.
fn in_words(kind: &str) -> String {
    let lower = kind.to_lowercase();
    let word = if lower.starts_with("f8") || lower.starts_with("float8") {
        "fp8 (8-bit floating point)"
    } else if lower.starts_with("f4") || lower.starts_with("f6") || lower.starts_with("float4") {
        "fp4 or fp6"
    } else if lower.starts_with("q") {
        "quantised integers"
    } else if ["i8", "charstorage"].contains(&lower.as_str()) {
        "int8"
    } else if ["u8", "bytestorage"].contains(&lower.as_str()) {
        "uint8 (quantised?)"
    } else {
        return kind.into();
    };
    format!("{word}, {kind}")
}

/// Multiplies the gains of LayerScale into the weights before them: `gamma * (W a + b) = (gamma W) a + gamma b`.
fn fold_scales(parts: &mut BTreeMap<String, Tensor>, notes: &mut Vec<String>) -> Computed<()> {
    let scales: Vec<String> =
        parts.keys().filter(|name| name.ends_with(".ls1.gamma") || name.ends_with(".ls2.gamma")).cloned().collect();
    let mut count = 0;
    for name in scales {
        let (from, layer) = match name.strip_suffix(".ls1.gamma") {
            Some(block) => (block, "attn.proj"),
            None => (name.trim_end_matches(".ls2.gamma"), "mlp.fc2"),
        };
        let (weight, bias) = (format!("{from}.{layer}.weight"), format!("{from}.{layer}.bias"));
        let (Some(w), Some(gamma)) = (parts.get(&weight), parts.get(&name)) else { continue };
        let gamma = gamma.flatten_all()?;
        if w.dims().first() != gamma.dims().first() {
            continue; // listed as an extra name
        }
        let folded = w.broadcast_mul(&gamma.unsqueeze(1)?)?;
        let folded_bias = parts.get(&bias).map(|b| b.mul(&gamma)).transpose()?;
        parts.insert(weight, folded);
        folded_bias.map(|b| parts.insert(bias, b));
        parts.remove(&name);
        count += 1;
    }
    if count > 0 {
        notes.push(format!("the gains of LayerScale ({count} tensors) are multiplied into the weights before them"));
    }
    Ok(())
}

enum Fold {
    Refused(String),
    Failed(candle_core::Error),
}

impl From<candle_core::Error> for Fold {
    fn from(e: candle_core::Error) -> Self {
        Self::Failed(e)
    }
}

/// Adds the positions of distillation and register tokens to these tokens, which become `reg_token`; a class token
/// without a position of its own gets one of zeros.
fn fold_positions(parts: &mut BTreeMap<String, Tensor>, notes: &mut Vec<String>) -> Result<(), Fold> {
    let Some(table) = parts.get("pos_embed").cloned() else {
        return Err(Fold::Refused(
            "there is no table of positions (pos_embed): positions are rotary or computed (DINOv3, EVA-02, RoPE-ViT) or there are \
             none, which is not done here; the nearest models are those of DINOv2, also with registers"
                .into(),
        ));
    };
    let &[1, total, width] = table.dims() else { return Ok(()) };
    let class = parts.contains_key("cls_token");
    let distilled = parts.remove("dist_token");
    let (dinov2, timm) = (parts.remove("register_tokens"), parts.remove("reg_token"));
    let mut extra: Vec<Tensor> = Vec::new();
    for token in distilled.iter().chain(&dinov2).chain(&timm) {
        if token.dims().len() != 3 || token.dims()[0] != 1 || token.dims()[2] != width {
            return Err(Fold::Refused(format!("a token has shape {:?}, not [1, n, {width}]", token.dims())));
        }
        extra.push(token.clone());
    }
    let distilled = usize::from(distilled.is_some());
    let registers: usize = extra.iter().map(|token| token.dims()[1]).sum::<usize>() - distilled;
    let own = usize::from(class);
    // How many of the leading positions belong to tokens that are not patches, the likeliest first.
    let all = own + distilled + registers;
    let ways = match (registers > 0, distilled > 0) {
        (false, false) => vec![own, 0],
        (false, true) => vec![all, 0],
        // timm and DINOv2 give registers no position; other files of timm give all tokens one.
        (true, _) if dinov2.is_some() => vec![own + distilled, 0],
        (true, _) => vec![0, own + distilled, all],
    };
    let fitting: Vec<usize> =
        ways.into_iter().filter(|&k| total > k && (total - k).isqrt().pow(2) == total - k).collect();
    let Some(&leading) = fitting.first() else {
        return Err(Fold::Refused(format!(
            "pos_embed has {total} positions, which are no square of patches with {all} other tokens or without; tables of \
             images that are not square are not read: resample it to a square one in timm (resample_abs_pos_embed)"
        )));
    };
    if let Some(other) = fitting.iter().find(|k| **k != leading && (total - **k) != (total - leading)) {
        let sides = ((total - leading).isqrt(), (total - other).isqrt());
        notes.push(format!(
            "pos_embed has {total} positions, taken for {0} x {0} patches; {1} x {1} and {other} other tokens would fit too",
            sides.0, sides.1
        ));
    }
    let patches = table.narrow(1, leading, total - leading)?;
    if !extra.is_empty() {
        let mut tokens = Tensor::cat(&extra, 1)?;
        if leading > own {
            // Positions of those tokens that have one: the distillation token, or all.
            let positioned = leading - own;
            let first = tokens.narrow(1, 0, positioned)?.add(&table.narrow(1, own, positioned)?)?;
            let rest = tokens.dims()[1] - positioned;
            tokens = match rest {
                0 => first,
                rest => Tensor::cat(&[&first, &tokens.narrow(1, positioned, rest)?], 1)?,
            };
        }
        parts.insert("reg_token".into(), tokens.contiguous()?);
    }
    let table = match (class, leading) {
        (true, 0) => Tensor::cat(&[&patches.narrow(1, 0, 1)?.zeros_like()?, &patches], 1)?,
        (true, _) => Tensor::cat(&[&table.narrow(1, 0, 1)?, &patches], 1)?,
        (false, _) => patches,
    };
    parts.insert("pos_embed".into(), table.contiguous()?);
    Ok(())
}

/// The name of a gated MLP's first layer, which has twice as many outputs as the second has inputs.
fn is_gated(parts: &BTreeMap<String, Tensor>) -> Option<&str> {
    let name = parts.keys().find(|name| name.ends_with(".mlp.fc1.weight"))?;
    let second = parts.get(&name.replace(".fc1.", ".fc2."))?;
    let (rows, columns) = (parts.get(name)?.dims().first()?, second.dims().get(1)?);
    (*rows == 2 * columns).then_some(name)
}

/// The number of attention heads: `said` by the caller, stated by the file, or one per 64 channels.
fn heads(said: usize, stated: &Stated, config: &VitConfig, notes: &mut Vec<String>) -> Result<usize, String> {
    match (said, stated.num_heads) {
        (0, Some(stated)) => Ok(stated),
        (0, None) if config.embed_dim.is_multiple_of(64) => {
            let heads = config.embed_dim / 64;
            notes.push(format!(
                "neither the file nor a config.json states the heads: taken to be {heads}, one per 64 channels"
            ));
            Ok(heads)
        }
        (0, None) => Err(format!(
            "num_heads: no shape tells the number of attention heads and nothing states it; say --num-heads (the width is {})",
            config.embed_dim
        )),
        (said, Some(heads)) if heads != said => {
            Err(format!("num_heads: {said} heads were asked for, but it has {heads} by {}", stated.by))
        }
        (said, _) => Ok(said),
    }
}
