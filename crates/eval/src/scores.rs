//! The seven numbers of the benchmark, per object, per video and over all objects.

use crate::metrics::{ObjectScore, statistics};
use serde::de::{MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Deserializer};

/// Means over objects, in 0..1 (decays can be negative). Serialised under the benchmark's names.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, Deserialize)]
pub struct Scores {
    /// Mean of `j` and `f`, the benchmark's headline.
    #[serde(rename = "JF", deserialize_with = "or_nan")]
    pub jf: f64,
    /// Mean region similarity.
    #[serde(rename = "J", deserialize_with = "or_nan")]
    pub j: f64,
    /// Fraction of frames with a region similarity above 0.5.
    #[serde(rename = "JR", deserialize_with = "or_nan")]
    pub jr: f64,
    /// Loss of region similarity from the first to the last quarter of a video.
    #[serde(rename = "JD", deserialize_with = "or_nan")]
    pub jd: f64,
    /// Mean boundary accuracy.
    #[serde(rename = "F", deserialize_with = "or_nan")]
    pub f: f64,
    /// Fraction of frames with a boundary accuracy above 0.5.
    #[serde(rename = "FR", deserialize_with = "or_nan")]
    pub fr: f64,
    /// Loss of boundary accuracy from the first to the last quarter of a video.
    #[serde(rename = "FD", deserialize_with = "or_nan")]
    pub fd: f64,
}

impl Scores {
    /// Means over `objects`; NaN if there are none.
    pub fn over<'a>(objects: impl IntoIterator<Item = &'a ObjectScore>) -> Self {
        Self::mean(objects.into_iter().map(|ObjectScore { j, f }| {
            let jf = (j.mean + f.mean) / 2.0;
            Self { jf, j: j.mean, jr: j.recall, jd: j.decay, f: f.mean, fr: f.recall, fd: f.decay }
        }))
    }

    /// Means of scores; NaN if there are none.
    pub fn mean(all: impl IntoIterator<Item = Self>) -> Self {
        let mut sum = [0.0; 6];
        let mut count = 0.0;
        for s in all {
            let values = [s.j, s.jr, s.jd, s.f, s.fr, s.fd];
            sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            count += 1.0;
        }
        let [j, jr, jd, f, fr, fd] = sum.map(|sum| sum / count);
        Self { jf: (j + f) / 2.0, j, jr, jd, f, fr, fd }
    }
}

/// One object of a video.
#[derive(Clone, Debug, PartialEq, serde::Serialize, Deserialize)]
pub struct ObjectReport {
    /// Id of the object in the masks; 0 in results of earlier versions, whose objects are counted from 1.
    #[serde(default)]
    pub id: u8,
    /// The seven numbers of the object.
    #[serde(flatten)]
    pub scores: Scores,
    /// Region similarity of each scored frame.
    #[serde(rename = "j_per_frame")]
    pub j: Vec<f64>,
    /// Boundary accuracy of each scored frame.
    #[serde(rename = "f_per_frame")]
    pub f: Vec<f64>,
}

/// One video.
#[derive(Clone, Debug, PartialEq, serde::Serialize, Deserialize)]
pub struct SequenceReport {
    /// Means over its objects.
    #[serde(flatten)]
    pub scores: Scores,
    /// Names of the scored frames, in order.
    pub frames: Vec<String>,
    /// The objects, in the order of their ids.
    pub objects: Vec<ObjectReport>,
}

impl SequenceReport {
    /// Reduces the values `(J, F)` of the objects `ids` in every frame
    /// ([`SequenceTally::values`](crate::metrics::SequenceTally)).
    pub fn of(frames: Vec<String>, ids: &[u8], values: &[Vec<(f64, f64)>]) -> Self {
        let object = |(&id, values): (&u8, &Vec<(f64, f64)>)| {
            let (j, f): (Vec<f64>, Vec<f64>) = values.iter().copied().unzip();
            let score = ObjectScore { j: statistics(&j), f: statistics(&f) };
            (score, ObjectReport { id, scores: Scores::over([&score]), j, f })
        };
        let (scores, objects): (Vec<ObjectScore>, Vec<ObjectReport>) = ids.iter().zip(values).map(object).unzip();
        Self { scores: Scores::over(&scores), frames, objects }
    }
}

/// The scores of an evaluation. Serialises to `{"global": {..}, "sequences": {name: {..}}}`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, Deserialize)]
pub struct DavisReport {
    /// Means over the objects of all videos: a video counts as often as it has objects.
    pub global: Scores,
    /// Each video that was scored, in the order of evaluation.
    #[serde(serialize_with = "as_map", deserialize_with = "from_map")]
    pub sequences: Vec<(String, SequenceReport)>,
}

impl DavisReport {
    /// Reduces the scores of named videos.
    pub fn of(sequences: Vec<(String, SequenceReport)>) -> Self {
        let objects = sequences.iter().flat_map(|(_, s)| &s.objects);
        Self { global: Scores::mean(objects.map(|o| o.scores)), sequences }
    }
}

fn as_map<S: Serializer>(pairs: &[(String, SequenceReport)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(pairs.len()))?;
    for (name, report) in pairs {
        map.serialize_entry(name, report)?;
    }
    map.end()
}

fn from_map<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, SequenceReport)>, D::Error> {
    struct Pairs;
    impl<'de> Visitor<'de> for Pairs {
        type Value = Vec<(String, SequenceReport)>;
        fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
            f.write_str("a map from sequences to their scores")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some(pair) = map.next_entry()? {
                pairs.push(pair);
            }
            Ok(pairs)
        }
    }
    deserializer.deserialize_map(Pairs)
}

/// Reads a number or null as NaN: JSON has no NaN, so it is written as null.
fn or_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Option::deserialize(deserializer).map(|value| value.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn global_means_are_over_objects() {
        let sequence = |values: &[f64]| {
            let values: Vec<Vec<(f64, f64)>> = values.iter().map(|&v| vec![(v, v / 2.); 4]).collect();
            SequenceReport::of((1..5).map(|n| n.to_string()).collect(), &[1, 2], &values)
        };
        let report = DavisReport::of(vec![("b".into(), sequence(&[1.0])), ("a".into(), sequence(&[0.5, 0.0]))]);
        assert_eq!((report.global.j, report.global.f, report.global.jf), (0.5, 0.25, 0.375));
        assert_eq!((report.sequences[1].1.scores.j, report.sequences[1].1.objects[0].scores.jf), (0.25, 0.375));
        let json = serde_json::to_string(&report).unwrap();
        let start = r#"{"global":{"JF":0.375,"J":0.5,"JR":0.3333333333333333,"JD":0.0,"F":0.25,"FR":0.0,"FD":0.0},"sequences":{"b":{"#;
        assert!(json.starts_with(start), "{json}");
        assert!(json.find(r#""b":"#) < json.find(r#""a":"#), "{json}");
        assert_eq!(serde_json::from_str::<DavisReport>(&json).unwrap(), report);
    }

    #[test]
    fn nothing_scored_reads_back_as_nan() {
        let json = serde_json::to_string(&DavisReport::of(Vec::new())).unwrap();
        assert!(json.contains(r#""JF":null"#), "{json}");
        assert!(serde_json::from_str::<DavisReport>(&json).unwrap().global.jf.is_nan());
        assert!(serde_json::from_str::<DavisReport>(&json.replace("JF", "other")).is_err());
    }
}
