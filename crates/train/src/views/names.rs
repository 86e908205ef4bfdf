//! Names of the pictures in the folder of a run, and the colours that are used in them.

/// Name of the folder of pictures in the run folder.
pub const FOLDER: &str = "views";
/// Most crops that are shown.
pub const CROPS: usize = 4;
/// Colours of the query patches, RGB; as many as there are queries.
pub const COLOURS: [[u8; 3]; 3] = [[255, 80, 70], [70, 220, 90], [70, 170, 255]];

/// The name of the picture of crop `crop` with its query patches and their positives.
pub fn positives_name(crop: usize) -> String {
    format!("{crop}-positives.png")
}

/// The name of the picture of what query patch `query` of crop `crop` attends to.
pub fn attention_name(crop: usize, query: usize) -> String {
    format!("{crop}-attention-{query}.png")
}
