//! Words of the command line for the algorithm's own types.

use clap::ValueEnum;
use holdfast_core::parameters::{DropType, Granularity, Mode, Preset};

/// Whose decisions are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// POT's algorithm with its known flaws mended.
    Default,
    /// POT's decisions, flaws included.
    Compat,
}

impl From<ModeArg> for Mode {
    fn from(word: ModeArg) -> Mode {
        match word {
            ModeArg::Default => Mode::Default,
            ModeArg::Compat => Mode::Compat,
        }
    }
}

/// How a drop is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DropTypeArg {
    /// In the metric's own unit.
    Absolute,
    /// As a share of the baseline's value.
    Relative,
}

impl From<DropTypeArg> for DropType {
    fn from(word: DropTypeArg) -> DropType {
        match word {
            DropTypeArg::Absolute => DropType::Absolute,
            DropTypeArg::Relative => DropType::Relative,
        }
    }
}

/// POT's presets for processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PresetArg {
    /// Symmetric weights and activations.
    Performance,
    /// Symmetric weights, asymmetric activations.
    Mixed,
}

impl From<PresetArg> for Preset {
    fn from(word: PresetArg) -> Preset {
        match word {
            PresetArg::Performance => Preset::Performance,
            PresetArg::Mixed => Preset::Mixed,
        }
    }
}

/// One set of quantization parameters, or one per channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GranularityArg {
    /// One for the tensor.
    #[value(name = "pertensor")]
    PerTensor,
    /// One a channel.
    #[value(name = "perchannel")]
    PerChannel,
}

impl From<GranularityArg> for Granularity {
    fn from(word: GranularityArg) -> Granularity {
        match word {
            GranularityArg::PerTensor => Granularity::PerTensor,
            GranularityArg::PerChannel => Granularity::PerChannel,
        }
    }
}
