"""What science refuses: data that do not belong together, and settings that no fit can take."""

import numpy as np
import pytest
import xarray as xr

from pipeline.errors import ConfigError, DataError
from pipeline.science.detector.beam_photons import reduce_block
from pipeline.science.detector.beams import beam_dataset, find_beams
from pipeline.science.detector.dark import dark_sums, merge_dark_sums
from pipeline.science.forward import ForwardModel
from pipeline.science.kinetics.model import Exponentials
from pipeline.science.kinetics.parameters import known_parameters
from pipeline.science.kinetics.problem import build_problem
