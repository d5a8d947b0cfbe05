//! Values of command-line options that are more than a word or a number.

use std::str::FromStr;

/// The longest side an image may be given.
const SIDE_MAX: usize = 1 << 14;

/// Height and width in pixels: `N` is a square.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Pixels from top to bottom.
    pub height: usize,
    /// Pixels from left to right.
    pub width: usize,
}

impl FromStr for Extent {
    type Err = String;

    fn from_str(text: &str) -> Result<Extent, String> {
        let (height, width) = text.split_once('x').unwrap_or((text, text));
        Ok(Extent { height: parse_side(height)?, width: parse_side(width)? })
    }
}

/// What images are resized to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResizeTo {
    /// The shorter side has this length, the aspect ratio is kept.
    Shortest(usize),
    /// Exactly this.
    Exact(Extent),
}

impl FromStr for ResizeTo {
    type Err = String;

    fn from_str(text: &str) -> Result<ResizeTo, String> {
        if text.contains('x') { text.parse().map(ResizeTo::Exact) } else { parse_side(text).map(ResizeTo::Shortest) }
    }
}

fn parse_side(text: &str) -> Result<usize, String> {
    let side = text.parse().ok().filter(|side| (1..=SIDE_MAX).contains(side));
    side.ok_or_else(|| {
        format!("expected pixels as N or HxW, each between 1 and {SIDE_MAX}, for instance 224 or 224x192")
    })
}

/// A number that is neither infinite nor NaN.
pub(super) fn parse_finite(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| "expected a finite number, for instance 0.01".to_owned())
}

/// `input=1x3x224x224`: a name and its extents.
pub(super) fn parse_shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let refuse = || "expected an input and its extents, for instance input_ids=1x128".to_owned();
    let (name, extents) = text.rsplit_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(refuse)?;
    let extents: Result<Vec<usize>, _> = extents.split('x').map(str::parse).collect();
    match extents {
        Ok(extents) if extents.iter().all(|extent| *extent > 0) => Ok((name.to_owned(), extents)),
        _ => Err(refuse()),
    }
}

/// `host:port`, with or without `http://` before it.
pub(super) fn parse_url(text: &str) -> Result<String, String> {
    let refuse = || "expected the coordinator's address, for instance http://10.0.0.1:7077".to_owned();
    let authority = match text.split_once("://") {
        Some(("http", rest)) => rest.trim_end_matches('/'),
        Some(_) => return Err(refuse()),
        None => text,
    };
    let (host, port) = authority.rsplit_once(':').ok_or_else(refuse)?;
    let plain = !host.is_empty() && !host.contains(['/', '@', ' ']);
    match port.parse::<u16>() {
        Ok(1..) if plain => Ok(format!("http://{authority}")),
        _ => Err(refuse()),
    }
}
