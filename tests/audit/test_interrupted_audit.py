"""An audit that is interrupted in a fold resumes from the fold's last checkpoint."""

import pytest
from audit_toy import write_run, write_toy

from wsvad_jax import prepare
from wsvad_jax.training.checkpoints import Checkpoints


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("interrupted"))


def test_an_interrupted_fold_resumes(dataset, tmp_path, monkeypatch, capsys):
    words, outputs = [str(dataset), "--folds", "3"], []
    for name in ("whole", "interrupted"):
        run = write_run(tmp_path / name, dataset, "checkpoint_every_steps=10")
        outputs.append(run / "audit")
    assert prepare.main([*words, "--audit", str(tmp_path / "whole")]) == 0

    # Ctrl-C behind the second fold's checkpoint of step 20.
    save = Checkpoints.save

    def save_and_stop(self, step, *args, **kw):
        save(self, step, *args, **kw)
        if step == 20 and self.directory.parent.name == "fold1":
            raise KeyboardInterrupt

    words += ["--audit", str(tmp_path / "interrupted")]
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            prepare.main(words)
    assert not (outputs[1] / "audit.csv").exists()
    done = (outputs[1] / "folds/fold0/scores.npz").stat().st_mtime_ns

    capsys.readouterr()
    assert prepare.main(words) == 0
    out = capsys.readouterr().out
    assert "fold1 at step 20 of 40" in out and "fold 1 of 3" not in out
    assert (outputs[1] / "folds/fold0/scores.npz").stat().st_mtime_ns == done
    whole, again = ((path / "audit.csv").read_text() for path in outputs)
    assert again == whole
