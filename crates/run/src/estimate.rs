//! How long a run takes, and what would shorten it.

/// What is known of a run's time.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// Seconds of a step.
    pub step: f64,
    /// Seconds of all steps that are left, without evaluations on the way.
    pub left: f64,
    /// Ways to shorten the run; none for a run that is not long.
    pub shorter: Vec<Shorter>,
}

/// Other settings, and the time that all steps would take with them.
#[derive(Clone, Debug, PartialEq)]
pub struct Shorter {
    /// Flags that set the other settings.
    pub flags: String,
    /// Seconds of all steps with these flags.
    pub seconds: f64,
    /// What the quality of the result may need afterwards.
    pub then: Option<&'static str>,
}
