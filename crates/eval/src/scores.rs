//! The seven numbers of the benchmark, per video and over all objects.

use crate::metrics::{ObjectScore, SequenceScore};
use serde::ser::{SerializeMap, Serializer};

/// Means over objects, in 0..1 (decays can be negative). Serialised under the benchmark's names.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Scores {
    /// Mean of `j` and `f`, the benchmark's headline.
    #[serde(rename = "JF")]
    pub jf: f64,
    /// Mean region similarity.
    #[serde(rename = "J")]
    pub j: f64,
    /// Share of frames with a region similarity above 0.5.
    #[serde(rename = "JR")]
    pub jr: f64,
    /// Loss of region similarity from the first to the last quarter of a video.
    #[serde(rename = "JD")]
    pub jd: f64,
    /// Mean boundary accuracy.
    #[serde(rename = "F")]
    pub f: f64,
    /// Share of frames with a boundary accuracy above 0.5.
    #[serde(rename = "FR")]
    pub fr: f64,
    /// Loss of boundary accuracy from the first to the last quarter of a video.
    #[serde(rename = "FD")]
    pub fd: f64,
}

impl Scores {
    /// Means over `objects`; NaN if there are none.
    pub fn over<'a>(objects: impl IntoIterator<Item = &'a ObjectScore>) -> Self {
        let mut sum = [0.0; 6];
        let mut count = 0.0;
        for ObjectScore { j, f } in objects {
            let values = [j.mean, j.recall, j.decay, f.mean, f.recall, f.decay];
            for (sum, value) in sum.iter_mut().zip(values) {
                *sum += value;
            }
            count += 1.0;
        }
        let [j, jr, jd, f, fr, fd] = sum.map(|sum| sum / count);
        Self { jf: (j + f) / 2.0, j, jr, jd, f, fr, fd }
    }
}

/// What an evaluation found out. Serialises to `{"global": {..}, "sequences": {name: {..}}}`.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct DavisReport {
    /// Means over the objects of all videos: a video counts as often as it has objects.
    pub global: Scores,
    /// Means over the objects of each video, in the order of evaluation.
    #[serde(serialize_with = "as_map")]
    pub sequences: Vec<(String, Scores)>,
}

impl DavisReport {
    /// Reduces the scores of named videos.
    pub fn of(sequences: &[(String, SequenceScore)]) -> Self {
        Self {
            global: Scores::over(sequences.iter().flat_map(|(_, score)| &score.objects)),
            sequences: sequences.iter().map(|(name, score)| (name.clone(), Scores::over(&score.objects))).collect(),
        }
    }
}

fn as_map<S: Serializer>(pairs: &[(String, Scores)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(pairs.len()))?;
    for (name, scores) in pairs {
        map.serialize_entry(name, scores)?;
    }
    map.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Statistics;

    fn object(mean: f64) -> ObjectScore {
        let of = |mean| Statistics { mean, recall: 1.0, decay: 0.25 };
        ObjectScore { j: of(mean), f: of(mean / 2.0) }
    }

    #[test]
    fn global_means_are_over_objects() {
        let one = SequenceScore { objects: vec![object(1.0)] };
        let two = SequenceScore { objects: vec![object(0.5), object(0.0)] };
        let report = DavisReport::of(&[("b".into(), one), ("a".into(), two)]);
        assert_eq!((report.global.j, report.global.f, report.global.jf), (0.5, 0.25, 0.375));
        assert_eq!(report.sequences[1].1.j, 0.25);
        let json = serde_json::to_string(&report).unwrap();
        assert!(json.starts_with(
            r#"{"global":{"JF":0.375,"J":0.5,"JR":1.0,"JD":0.25,"F":0.25,"FR":1.0,"FD":0.25},"sequences":{"b":{"#
        ));
        assert!(json.find(r#""b":"#) < json.find(r#""a":"#), "{json}");
        let back: Scores = serde_json::from_str(&serde_json::to_string(&report.global).unwrap()).unwrap();
        assert_eq!(back, report.global);
    }
}
