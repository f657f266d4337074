"""Every command in README and docs: the test that runs it, or what it needs.

A command that nothing here covers fails, so that no page gains one that was never tried.
"""

import ast
import pathlib
import re

import pytest
from test_docs import PAGES, blocks

REPOSITORY = pathlib.Path(__file__).parent.parent.parent
DATA = "needs public features, weights or videos of one's own"
CLOUD = "needs a cloud account, a cluster or several GPUs"
# The first that fits counts. A test runs the command with smaller data.
COVERED = (
    (r"launch/gpus\.sh", "docs/test_launch.py::test_what_dry_run_prints_is_what_runs"),
    (r"launch/|gcloud|sbatch|xpk", CLOUD),
    (r"extract .*--runner", "extraction/test_beam.py::*"),
    (
        r"prepare .*--runner",
        "data/test_tfds_beam_writer.py::test_records_are_those_of_*",
    ),
    (r"--multihost", CLOUD),
    (r"^(pip install|python -m venv|\. \.venv|git clone|cd )", ".ci/run"),
    (r"^docker ", "needs a registry"),
    (r"python -m (pytest|sphinx)|sphinx-build", ".ci/run"),
    (r"^python tests/support/fuzz\.py", "test_hostile.py::test_damaged_files"),
    (
        r"train .*--seeds",
        "results/test_seeds.py::test_seeds_train_and_go_on_where_one_stopped",
    ),
    (r"train .*:(ucf|xd|shanghaitech)", DATA),
    (r"train .*topk_mil", "docs/test_docs.py::test_fifth_model_trains_and_scores"),
    (r"wsvad_jax\.train ", "test_train.py::test_a_run_leaves_numbers_and_pictures"),
    (
        r"detect .*--live .*--webhook",
        "alarms/test_live_sends.py::test_events_of_a_live_file_arrive_*",
    ),
    (
        r"detect .*--(webhook|mqtt|on_event)",
        "alarms/test_detect_sends.py::test_each_event_of_each_file_arrives_*",
    ),
    (
        r"wsvad_jax\.calibrate |detect .*--calibration",
        "test_calibrate.py::test_a_folder_is_calibrated_and_detect_takes_it",
    ),
    (
        r"detect .*--live .*--live",
        "detection/test_live_sources.py::test_one_lost_source_stops_no_other",
    ),
    (
        r"detect .*--cameras",
        "detection/test_cameras_file.py::test_cameras_of_a_file_have_their_own_rules",
    ),
    (
        r"detect .*--live rtsp",
        "detection/test_live.py::test_a_lost_connection_is_opened_again",
    ),
    (r"detect .*--live", "detection/test_live.py::test_a_file_is_played_at_its_pace"),
    (
        r"detect .*--classes",
        "detection/test_zero_shot_detection.py::test_a_video_gets_a_report",
    ),
    (
        r"wsvad_jax\.push |--checkpoint USER/NAME",
        "sharing/test_push.py::test_others_get_the_same_scores_bit_for_bit",
    ),
    (r"wsvad_jax\.detect ", "test_detect.py::test_videos_of_any_name_and_state"),
    (r"extract .*--compare", "test_extract.py::test_comparison_with_other_features"),
    (
        r"wsvad_jax\.extract ",
        "test_extract.py::test_a_folder_gives_features_and_sidecars",
    ),
    (r"wsvad_jax\.search ", "test_search.py::test_a_table_by_words"),
    (
        r"wsvad_jax\.pretrain ",
        "pretraining/test_pretrain.py::test_a_snapshot_in_the_hubs_format_comes_out",
    ),
    (
        r"export .*--video|run_exported_video",
        "test_export_video.py::test_the_runner_prints_the_scores_of_a_live_source",
    ),
    (r"--format onnx", "test_export.py::test_onnx_scores_as_the_model_does"),
    (
        r"wsvad_jax\.export ",
        "test_export.py::test_the_program_writes_the_file_and_its_description",
    ),
    (r"prepare .*--check", "datasets/test_validate.py::test_a_good_folder"),
    (r"prepare ucf", "datasets/test_public.py::test_ucf_as_vadclip_released_it"),
    (r"prepare .*--clip", "datasets/test_custom_videos.py::*"),
    (r"wsvad_jax\.prepare ", "test_prepare.py::test_real_features"),
    (r"wsvad_jax\.convert ", "test_convert.py::test_there_and_back"),
    (
        r"evaluate .*zero_shot",
        "test_evaluate_zero_shot.py::test_evaluate_finds_what_the_words_name",
    ),
    (r"wsvad_jax\.evaluate ", "test_evaluate.py::test_a_model_folder_is_scored_*"),
    (
        r"benchmark repro",
        "benchmarks/test_benchmark.py::test_a_grid_leaves_a_file_a_run_*",
    ),
    (r"benchmark speed", "benchmarks/test_benchmark.py::test_speed_measures_*"),
    (
        r"benchmark transfer",
        "benchmarks/test_transfer.py::test_a_benchmark_from_training_to_table",
    ),
    (
        r"benchmark compare",
        "benchmarks/test_compare.py::test_values_are_those_of_the_runs",
    ),
    (r"benchmark aot", "needs libtpu"),
    (r"wsvad_jax\.benchmark ", "benchmarks/test_benchmark.py::*"),
    (r"report .*--html", "results/test_html_report.py::test_a_page_has_tables_*"),
    (
        r"report .*--collect",
        "results/test_tables.py::test_collected_runs_give_the_same_*",
    ),
    (r"report .*--markdown", "results/test_tables.py::test_readme_is_filled_checked_*"),
    (
        r"wsvad_jax\.report ",
        "results/test_tables.py::test_a_row_is_the_mean_over_its_seeds",
    ),
)


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for _, block in blocks(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                for command in line.split(" && "):
                    text = " ".join(command.partition("#")[0].split())
                    if text:
                        found.append((str(page.relative_to(REPOSITORY)), text))
    return found


def test_every_command_is_tried_or_says_what_it_needs():
    left = [
        f"{page}: {command}"
        for page, command in commands()
        if not any(re.search(pattern, command) for pattern, _ in COVERED)
    ]
    assert not left


@pytest.mark.parametrize("where", sorted({w for _, w in COVERED if "::" in w}))
def test_the_tests_named_here_exist(where):
    path, _, name = where.partition("::")
    tree = ast.parse((REPOSITORY / "tests" / path).read_text())
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    pattern = name.replace("*", ".*")
    assert any(re.fullmatch(pattern, n) for n in names if n.startswith("test_"))


def test_nothing_is_covered_that_no_page_has():
    """A row that no command needs any more is taken out, except those by chance."""
    optional = (
        "together",
        "multihost",
        "docker",
        "aot",
        "html",
        "fuzz",
        "venv",
        "gcloud",
    )
    for pattern, _ in COVERED:
        if not any(word in pattern for word in optional):
            first = [c for _, c in commands() if re.search(pattern, c)]
            assert first or pattern.startswith(r"wsvad_jax"), pattern
