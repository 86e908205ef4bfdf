//! A synthetic world in which learning shows: textured shapes that drift over a panning, textured
//! background under changing light. All lengths are in pixels, all rates per frame.

mod blur;
mod images;
mod light;
mod object;
mod scene;
mod texture;
mod videos;

pub use images::ProceduralImages;
pub use videos::ProceduralVideos;
