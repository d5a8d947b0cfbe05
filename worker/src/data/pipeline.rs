//! The way of a sample from its pack to the inputs of one model, checked once against model and data set.

use super::array::{ArrayRoute, shape_text};
use super::cache::PixelCache;
use super::decode::{FieldValue, decode_field, sample_entry};
use super::steps::Steps;
use super::{DataError, Pixels};
use bytes::Bytes;
use holdfast_common::Digest;
use holdfast_common::dataset::{ElementType, Field, FieldEncoding, Manifest, Pack, Preprocessing, PreprocessingStep};
use holdfast_common::evaluation::SampleIndex;
use holdfast_common::graph::{DataType, TensorData};
use holdfast_kernels::Image;
use ndarray::{ArrayD, Ix4, IxDyn};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// One input of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputSpec {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub data_type: DataType,
    /// Its shape, batch axis first; `None` is a free axis.
    pub shape: Vec<Option<usize>>,
}

/// Where packs come from. An implementation verifies their digests; it should keep a pack that is asked for again.
pub trait PackSource: Send + Sync {
    /// The bytes of a pack.
    ///
    /// # Errors
    ///
    /// Whatever hinders fetching it.
    fn read(&self, pack: &Pack) -> io::Result<Bytes>;
}

/// Prepares samples of one data set for one model. Any number of threads may use it at the same time.
pub struct SamplePipeline {
    manifest: Arc<Manifest>,
    source: Arc<dyn PackSource>,
    cache: Option<Arc<PixelCache>>,
    routes: Vec<Route>,
}

/// How one field becomes one input.
struct Route {
    input: InputSpec,
    field: usize,
    kind: RouteKind,
}

enum RouteKind {
    Pixels(PixelRoute),
    Array(ArrayRoute),
}

struct PixelRoute {
    /// Names data set, field and pixel steps in the cache.
    key: Digest,
    steps: Steps,
    order: PixelOrder,
    tables: Vec<[f32; 256]>,
}

/// The axes a model wants an image in, after the batch axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PixelOrder {
    ChannelHeightWidth,
    HeightWidthChannel,
    HeightWidth,
}

impl SamplePipeline {
    /// Pairs the model's inputs with the data set's fields and checks that shapes and types go together.
    ///
    /// A field feeds the input of its name; where there is one of each, the names may differ. `preprocessing` goes by
    /// input name. The manifest must be valid ([`Manifest::validate`]).
    ///
    /// # Errors
    ///
    /// [`DataError::Fields`] and [`DataError::Input`] say what the data gives, what the model wants and how to fix it.
    pub fn new(
        manifest: Arc<Manifest>,
        preprocessing: &BTreeMap<String, Preprocessing>,
        inputs: &[InputSpec],
        source: Arc<dyn PackSource>,
        cache: Option<Arc<PixelCache>>,
    ) -> Result<SamplePipeline, DataError> {
        let refuse = |problem: String| DataError::Fields { dataset: manifest.name.clone(), problem };
        if let Some(unknown) = preprocessing.keys().find(|name| inputs.iter().all(|input| input.name != **name)) {
            let names = names(inputs.iter().map(|input| &input.name));
            return Err(refuse(format!(
                "preprocessing is declared for `{unknown}`, but the model's inputs are {names}"
            )));
        }
        let digest = manifest.digest().map_err(|error| refuse(error.to_string()))?;
        let none = Preprocessing::default();
        let mut routes = Vec::with_capacity(inputs.len());
        for input in inputs {
            let same_name = manifest.fields.iter().position(|field| field.name == input.name);
            let is_only = manifest.fields.len() == 1 && inputs.len() == 1;
            let field = same_name.or(is_only.then_some(0)).ok_or_else(|| {
                let fields = names(manifest.fields.iter().map(|field| &field.name));
                refuse(format!("no field feeds the model input `{}`; fields are {fields}; rename one", input.name))
            })?;
            let steps = &preprocessing.get(&input.name).unwrap_or(&none).steps;
            let kind = RouteKind::new(digest, field, &manifest.fields[field], input, steps)
                .map_err(|problem| DataError::Input { input: input.name.clone(), problem })?;
            routes.push(Route { input: input.clone(), field, kind });
        }
        Ok(SamplePipeline { manifest, source, cache, routes })
    }

    /// The data set.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The inputs of one sample in model order, each with a leading axis of length 1, dense and row-major.
    ///
    /// # Errors
    ///
    /// [`DataError`] naming the sample.
    pub fn prepare(&self, sample: SampleIndex) -> Result<Vec<TensorData>, DataError> {
        (0..self.routes.len()).map(|input| self.prepare_input(sample, input)).collect()
    }

    /// One input of [`SamplePipeline::prepare`], by its position in the model.
    ///
    /// # Errors
    ///
    /// [`DataError`] naming the sample; [`DataError::Buffer`] for an input the model does not have.
    pub fn prepare_input(&self, sample: SampleIndex, input: usize) -> Result<TensorData, DataError> {
        let route = self.route(input)?;
        match &route.kind {
            RouteKind::Pixels(pixel_route) => {
                let pixels = self.pixels(sample, route, pixel_route)?;
                pixel_route.tensor(&pixels, route.input.data_type).map_err(|problem| self.refuse(sample, problem))
            }
            RouteKind::Array(array_route) => self.prepare_array(sample, route, array_route),
        }
    }

    /// Writes one four-axis float input [1, C, H, W] as rows of pixels into a caller's buffer.
    ///
    /// `layout` says where; its height, width and channels must be the input's. Elements outside its interior are left
    /// alone. The bits are those of [`SamplePipeline::prepare`].
    ///
    /// # Errors
    ///
    /// [`DataError::Buffer`] where buffer, layout and input do not go together, else as [`SamplePipeline::prepare`].
    pub fn prepare_nhwc_f32(
        &self,
        sample: SampleIndex,
        input: usize,
        out: &mut [f32],
        layout: &Image,
    ) -> Result<(), DataError> {
        let route = self.route(input)?;
        let refuse = |problem: String| DataError::Buffer { input: route.input.name.clone(), problem };
        if layout.end() > out.len() {
            return Err(refuse(format!("the layout ends at element {}, the buffer at {}", layout.end(), out.len())));
        }
        if layout.pixel_stride < layout.channels.max(1) {
            return Err(refuse(format!(
                "{} channels do not fit pixels {} apart",
                layout.channels, layout.pixel_stride
            )));
        }
        let check = |found: [usize; 3]| {
            let expected = [layout.channels, layout.height, layout.width];
            let problem =
                || format!("the sample gives channels, height, width {found:?}, the buffer takes {expected:?}");
            if found == expected { Ok(()) } else { Err(refuse(problem())) }
        };
        if let RouteKind::Pixels(pixel_route) = &route.kind
            && pixel_route.order == PixelOrder::ChannelHeightWidth
            && route.input.data_type == DataType::F32
        {
            let pixels = self.pixels(sample, route, pixel_route)?;
            check([pixels.channels, pixels.height, pixels.width])?;
            pixel_route.write(&pixels, out, layout);
            return Ok(());
        }
        let TensorData::F32(array) = self.prepare_input(sample, input)? else {
            return Err(refuse(format!("the input is {}, not float32", route.input.data_type)));
        };
        let array = array.into_dimensionality::<Ix4>().map_err(|_| refuse("the input has not four axes".to_owned()))?;
        let (_, channels, height, width) = array.dim();
        check([channels, height, width])?;
        for ((_, channel, y, x), value) in array.indexed_iter() {
            out[layout.at(y, x) + channel] = *value;
        }
        Ok(())
    }

    fn route(&self, input: usize) -> Result<&Route, DataError> {
        self.routes.get(input).ok_or_else(|| DataError::Buffer {
            input: input.to_string(),
            problem: format!("the model has {} inputs", self.routes.len()),
        })
    }

    fn prepare_array(&self, sample: SampleIndex, route: &Route, array: &ArrayRoute) -> Result<TensorData, DataError> {
        let pack = self.pack(sample)?;
        match decode_field(&self.manifest, sample, route.field, &pack)? {
            FieldValue::Array { bytes, .. } => array.prepare(bytes).map_err(|problem| self.refuse(sample, problem)),
            FieldValue::Image(_) => Err(self.refuse(sample, "an image stands where an array was declared".to_owned())),
        }
    }

    /// The sample's pixels after all steps on pixels, from the cache or from its pack.
    fn pixels(&self, sample: SampleIndex, route: &Route, pixel_route: &PixelRoute) -> Result<Arc<Pixels>, DataError> {
        let key = (pixel_route.key, sample.0);
        if let Some(pixels) = self.cache.as_ref().and_then(|cache| cache.get(&key)) {
            return Ok(pixels);
        }
        let pack = self.pack(sample)?;
        let stored = match decode_field(&self.manifest, sample, route.field, &pack)? {
            FieldValue::Image(pixels) => pixels,
            FieldValue::Array { shape, bytes, .. } => pixels_of_array(shape, bytes)
                .ok_or_else(|| self.refuse(sample, format!("an array of shape {shape:?} is no 8-bit image")))?,
        };
        let pixels = pixel_route.steps.apply(stored).map_err(|problem| self.refuse(sample, problem))?;
        pixel_route.check(&pixels, &route.input).map_err(|problem| self.refuse(sample, problem))?;
        let pixels = Arc::new(pixels);
        if let Some(cache) = &self.cache {
            cache.insert(key, Arc::clone(&pixels));
        }
        Ok(pixels)
    }

    fn pack(&self, sample: SampleIndex) -> Result<Bytes, DataError> {
        let (_, index) = sample_entry(&self.manifest, sample)?;
        let dataset = || self.manifest.name.clone();
        let pack = &self.manifest.packs[index];
        let bytes =
            self.source.read(pack).map_err(|source| DataError::Pack { dataset: dataset(), pack: index, source })?;
        let found = bytes.len() as u64;
        if found != pack.bytes {
            return Err(DataError::PackLength { dataset: dataset(), pack: index, expected: pack.bytes, found });
        }
        Ok(bytes)
    }

    fn refuse(&self, sample: SampleIndex, problem: String) -> DataError {
        let name = self.manifest.samples.get(sample.0 as usize).map(|entry| entry.name.clone());
        DataError::Sample { sample: name.unwrap_or_default(), problem }
    }
}

impl RouteKind {
    fn new(
        manifest: Digest,
        position: usize,
        field: &Field,
        input: &InputSpec,
        steps: &[PreprocessingStep],
    ) -> Result<RouteKind, String> {
        if let Some(Some(batch)) = input.shape.first()
            && *batch != 1
        {
            return Err(format!("its batch is fixed to {batch}; export the model with a batch of 1 or a free one"));
        }
        let is_image_step = |step: &PreprocessingStep| !matches!(step, PreprocessingStep::Normalization { .. });
        let (channels, size) = match &field.encoding {
            FieldEncoding::Image => (3, None),
            FieldEncoding::Array { element: ElementType::U8, shape } if steps.iter().any(is_image_step) => {
                let [height, width, channels] = image_shape(shape)
                    .ok_or_else(|| format!("image steps need height × width (× 1 or 3), the data gives {shape:?}"))?;
                (channels, Some((height, width)))
            }
            FieldEncoding::Array { element, shape } => {
                let steps = Steps::new(steps, None, None)?;
                let route = ArrayRoute::new(*element, shape, input.data_type, &input.shape, steps)?;
                return Ok(RouteKind::Array(route));
            }
        };
        let steps = Steps::new(steps, Some(channels), size)?;
        let channels = steps.channels.unwrap_or(channels);
        if !matches!(input.data_type, DataType::F32 | DataType::U8) {
            return Err(format!("the model wants {}, an image gives float32 or uint8", input.data_type));
        }
        if input.data_type == DataType::U8 && !steps.normalizations.is_empty() {
            return Err("the model wants uint8 pixels; remove the normalization".to_owned());
        }
        if !steps.is_uniform() && !steps.suits_channels(channels) {
            return Err(format!("`normalization` must have one value, or one for each of {channels} channels"));
        }
        let orders = [PixelOrder::ChannelHeightWidth, PixelOrder::HeightWidthChannel, PixelOrder::HeightWidth];
        let order = orders.into_iter().find(|order| order.fits(channels, steps.size, &input.shape));
        let order = order.ok_or_else(|| misfit(channels, steps.size, &input.shape))?;
        let pixel_steps = (manifest, position, &steps.on_pixels);
        let key = Digest::of_json(&pixel_steps).map_err(|error| error.to_string())?;
        Ok(RouteKind::Pixels(PixelRoute { key, tables: steps.tables(channels), steps, order }))
    }
}

impl PixelOrder {
    /// The axes of an image after the batch axis, free where the size is not known yet.
    fn axes(self, channels: usize, size: Option<(usize, usize)>) -> Vec<Option<usize>> {
        let (height, width) = size.unzip();
        match self {
            PixelOrder::ChannelHeightWidth => vec![Some(channels), height, width],
            PixelOrder::HeightWidthChannel => vec![height, width, Some(channels)],
            PixelOrder::HeightWidth => vec![height, width],
        }
    }

    fn fits(self, channels: usize, size: Option<(usize, usize)>, shape: &[Option<usize>]) -> bool {
        let axes = self.axes(channels, size);
        let agree = |(given, wanted): (&Option<usize>, &Option<usize>)| match (given, wanted) {
            (Some(given), Some(wanted)) => given == wanted,
            _ => true,
        };
        (self != PixelOrder::HeightWidth || channels == 1)
            && shape.len() == axes.len() + 1
            && axes.iter().zip(&shape[1..]).all(agree)
    }
}

impl PixelRoute {
    /// The size of an image may be known only now.
    fn check(&self, pixels: &Pixels, input: &InputSpec) -> Result<(), String> {
        let size = Some((pixels.height, pixels.width));
        if pixels.channels == self.tables.len() && self.order.fits(pixels.channels, size, &input.shape) {
            Ok(())
        } else {
            Err(misfit(pixels.channels, size, &input.shape))
        }
    }

    fn tensor(&self, pixels: &Pixels, data_type: DataType) -> Result<TensorData, String> {
        let axes = self.order.axes(pixels.channels, Some((pixels.height, pixels.width)));
        let shape: Vec<usize> = std::iter::once(1).chain(axes.into_iter().flatten()).collect();
        let channels = pixels.channels;
        let planes = || (0..channels).map(|channel| pixels.values.iter().skip(channel).step_by(channels));
        let is_planar = self.order == PixelOrder::ChannelHeightWidth;
        let mismatch = |_| "the image has another number of pixels than its size says".to_owned();
        if data_type == DataType::U8 {
            let values = if is_planar { planes().flatten().copied().collect() } else { pixels.values.clone() };
            return Ok(TensorData::U8(ArrayD::from_shape_vec(IxDyn(&shape), values).map_err(mismatch)?));
        }
        let mut values = Vec::with_capacity(pixels.values.len());
        if is_planar {
            for (plane, table) in planes().zip(&self.tables) {
                values.extend(plane.map(|&byte| table[usize::from(byte)]));
            }
        } else {
            for pixel in pixels.values.chunks_exact(channels) {
                values.extend(pixel.iter().zip(&self.tables).map(|(&byte, table)| table[usize::from(byte)]));
            }
        }
        Ok(TensorData::F32(ArrayD::from_shape_vec(IxDyn(&shape), values).map_err(mismatch)?))
    }

    /// The caller has checked that layout, buffer and pixels agree.
    fn write(&self, pixels: &Pixels, out: &mut [f32], layout: &Image) {
        let rows = pixels.values.chunks_exact(pixels.width * pixels.channels);
        for (y, row) in rows.enumerate() {
            let start = layout.at(y, 0);
            let end = layout.at(y, pixels.width - 1) + pixels.channels;
            let target = &mut out[start..end];
            match self.tables.as_slice() {
                [red, green, blue] if layout.pixel_stride == 3 => {
                    for (pixel, out) in row.as_chunks::<3>().0.iter().zip(target.as_chunks_mut::<3>().0) {
                        let [r, g, b] = pixel.map(usize::from);
                        *out = [red[r], green[g], blue[b]];
                    }
                }
                tables => {
                    let source = row.chunks_exact(pixels.channels);
                    for (pixel, out) in source.zip(target.chunks_mut(layout.pixel_stride)) {
                        for ((byte, table), out) in pixel.iter().zip(tables).zip(out) {
                            *out = table[usize::from(*byte)];
                        }
                    }
                }
            }
        }
    }
}

/// Height, width and channels of an array that is an 8-bit image.
fn image_shape(shape: &[usize]) -> Option<[usize; 3]> {
    match *shape {
        [height, width] if height * width > 0 => Some([height, width, 1]),
        [height, width, channels @ (1 | 3)] if height * width > 0 => Some([height, width, channels]),
        _ => None,
    }
}

fn pixels_of_array(shape: &[usize], bytes: &[u8]) -> Option<Pixels> {
    let [height, width, channels] = image_shape(shape)?;
    (bytes.len() == height * width * channels).then(|| Pixels { height, width, channels, values: bytes.to_vec() })
}

fn misfit(channels: usize, size: Option<(usize, usize)>, shape: &[Option<usize>]) -> String {
    let given = match size {
        Some((height, width)) => format!("{channels} channels of {height}×{width} (height × width)"),
        None => format!("{channels} channels of each image's own size"),
    };
    let wanted = shape_text(shape);
    let advice = match shape {
        [_, Some(1), ..] if channels == 3 => "add a `grayscale` step".to_owned(),
        [_, Some(c), Some(height), Some(width)] if *c == channels => {
            format!("add a `resize` or `center_crop` step to height {height}, width {width}")
        }
        _ => "an image can feed [batch, channels, height, width] or [batch, height, width, channels]".to_owned(),
    };
    format!("the data gives {given}, the model wants {wanted}; {advice}")
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
