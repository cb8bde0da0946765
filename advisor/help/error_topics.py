"""The long text of every error code, for `advisor explain CODE`."""

ERROR_PAGES: dict[str, str] = {
    "nothing-to-refit": (
        "`advisor profile refit` fits the profile that a plan was made with to the run of that plan. It needs the run folder as "
        "`advisor apply` wrote it, with plan.yaml, a plan that was made from a measured profile, and at least one measured rung."
    ),
    "bad-cases": (
        "The file is not a table of measurements: it is not CSV, or a column is missing. One row per metric; the message names the columns."
    ),
    "bad-engine": "An engine profile that ships with advisor, or one you wrote, has a wrong or missing field; the message names it.",
    "bad-group-size": "The rows of a weight matrix cannot be divided into groups of this size. Choose a group size that divides them.",
    "bad-hardware": (
        "A data sheet has a wrong or missing field; the message names it. It is a YAML file of one device: `advisor schema hardware` "
        "describes its fields, and `advisor hardware show rtx-4090 -f yaml` prints one to start from. Its id is one of its own."
    ),
    "bad-keymap": ("The keymap file assigns keys to actions, one a line, such as `plan.save: f9`. The help screen (?) lists every action."),
    "bad-power-limit": (
        "The effect of a power limit comes from published measurements, at limits from 29 to 100 % of what a card takes. It is not "
        "known where a data sheet states no power, nor for a machine profile, which has the limit that it was measured under."
    ),
    "bad-profile": (
        "A profile file was read as YAML but a field is wrong or missing. Measure again with `advisor profile run --name NAME`."
    ),
    "bad-name": (
        "The name would become part of a path, and has a character that it may not have there, such as a slash. Names are letters, "
        "digits, `.`, `_` and `-`, and begin with a letter or a digit."
    ),
    "bad-profile-name": (
        "Profile names are lower-case letters, digits and hyphens, and never now, auto or none, so that they differ from model ids "
        "and keywords. A profile file has a slash in its path or ends in .yaml."
    ),
    "bad-run": "The settings of a run contradict each other; the message names them.",
    "bad-session": (
        "The state file that `advisor --resume` restores cannot be read: it was edited, or a later version wrote it. `advisor` without "
        "--resume starts without it and renames that file; saved plans and runs are not affected."
    ),
    "bad-tokens": (
        "A token id is negative or not below the size of the model's vocabulary: the text was made with another model's tokenizer. "
        "Nothing was computed."
    ),
    "bad-trace": (
        "The file given with `--load-trace` is not a table of requests. It is CSV whose first line names its columns, or one JSON object "
        "per line; each request has arrival_s (seconds, from any start), prompt_tokens and output_tokens. Other columns are ignored."
    ),
    "bad-value": (
        "A flag's value is not a number of its kind, or is zero or negative where a positive number is needed. Times "
        "are in ms (500, 500ms, 0.5s), sizes in GiB (24, 24GiB, 24GB), tokens plain or with k for 1024 (8k). Leave a flag out "
        "for no limit."
    ),
    "bad-yaml": (
        "The file is not YAML as advisor reads it: well-formed, UTF-8, without anchors, aliases, tags or duplicate "
        "keys, and not deeply nested. The message gives the line."
    ),
    "cancelled": "The work was cancelled before anything was measured; nothing was changed. Start it again at any time.",
    "compiler-not-found": (
        "A technique compiles its kernels when it is applied, and the tools for that are not on this machine: a C++ compiler for a CPU, "
        "triton for a GPU. `advisor doctor` shows what was found. Nothing was run."
    ),
    "context-too-long": (
        "The prompt and the output together are longer than the model was trained for. Ask for fewer tokens with --context."
    ),
    "crashed": (
        "A child process that was measuring stopped with an error of its own or of a library. Earlier measurements are kept in the "
        "run folder, with the log of the child process."
    ),
    "disk-full": (
        "There was no space left to write a file. Files are written completely or not at all: an older file of that name is "
        "unchanged. Free some space, or name another folder with --out or -o."
    ),
    "draft-not-found": "The draft model of the plan is not in its folder.",
    "engine-not-applied": (
        "`advisor apply` runs plans for advisor's own runtime only. A plan for a serving engine is a prediction for that engine."
    ),
    "engine-not-found": "No serving engine has that name. `advisor` is its own runtime; the message lists the others.",
    "file-not-found": "The named file does not exist. Paths are relative to the current folder.",
    "hardware-ambiguous": (
        "Several devices of the catalogue have that name: they differ in memory size or board. The message lists their ids; give one "
        "of them, or add what differs, as in `A100 80GB PCIe`."
    ),
    "hardware-not-found": (
        "No accelerator of that name is known. `advisor hardware` lists every id; `advisor hardware detect` shows this machine. For "
        "another device write a data sheet (`advisor schema hardware`) and give its file with --hardware FILE.yaml."
    ),
    "hardware-unknown": (
        "This machine's accelerator is not in the catalogue, and its driver reports too little to compute its figures. Name one "
        "with --hardware ID, or measure with --profile."
    ),
    "hub-unreachable": "The Hugging Face hub could not be reached. Give a model folder, or an id that `advisor models` lists.",
    "internal": (
        "A fault in advisor itself. The full trace is in the file that the message names; add it and the output of `advisor "
        "doctor` to a bug report."
    ),
    "interrupted": "The command was stopped by Ctrl-C. Finished measurements are kept; no file is incomplete.",
    "kv-pool-too-small": "One request alone needs more KV cache than the pool has. Ask for a shorter context, or allow more memory.",
    "limit-missed": (
        "The full stack ran, and a measured value misses a limit of the plan. The notes have both numbers; `advisor "
        "compare` shows where prediction and measurement differ."
    ),
    "model-config": (
        "The model's config.json lacks a field, or has an invalid one; the message names it. The shapes of the model follow from it."
    ),
    "model-gated": (
        "The model is gated: its files are available only to users whom its owner has approved. Log in with `hf auth login`, or give a "
        "folder that has its config.json."
    ),
    "model-missing": "The command needs a model: a folder, a config.json, or an id such as meta-llama/Meta-Llama-3.1-8B.",
    "model-not-found": (
        "No folder, no cached model and no shipped architecture of that name was found. `advisor models` lists the shipped "
        "ones; online, any id of the Hugging Face hub can be planned for."
    ),
    "model-unsupported": (
        "The architecture is known but the runtime cannot execute it: it needs a decoder of transformers that uses the "
        "attention interface. Planning may still work."
    ),
    "linear-not-quantisable": (
        "A matrix of this model is multiplied by code of its own instead of a linear layer, so that it cannot be replaced by a quantised "
        "one. Plan without the technique: --forbid weights-int8 or --forbid weights-int4."
    ),
    "no-plan": (
        "No stack of techniques meets all limits on this hardware. The nearest plan is printed and saved with verdict.status "
        "misses. The help lines give, for each limit, the smallest change that would admit a plan."
    ),
    "no-such-plan": (
        "`advisor plan --choose ID` takes an id of the table that `advisor plan` prints, or of the terminal interface, for the same "
        "model, machine and limits: the ids of another question name other plans. The help line lists the ids of the frontier."
    ),
    "not-a-terminal": (
        "`advisor` without a command opens the terminal interface, which reads keys from stdin and draws on stderr. Both must be a "
        "terminal. In a pipe or a batch job use the commands, which print the same information."
    ),
    "not-readable": "The file exists but cannot be read: see its permissions, or whether it is a folder.",
    "not-utf8": "Plan, profile and run files are UTF-8 text; this one is not. The message has the line.",
    "not-measurable": (
        "`advisor quality` measures techniques that change what attention reads: cache formats, windows, sparse patterns. "
        "The quality loss of other techniques is measured by applying a plan that has them."
    ),
    "not-writable": (
        "A file could not be written, for the reason in the message: no permission, no such folder, a folder of that name. An older file "
        "of that name is unchanged. Give another path with the flag that names the file."
    ),
    "nothing-to-quantise": "The model has no linear layers that can be quantised to this format.",
    "out-of-memory": (
        "The process needed more memory than there is, or than it was allowed. While applying, this counts as a measurement: "
        "the rungs before it are kept, and the predicted memory is reported with it."
    ),
    "plan-edited": (
        "The plan's id, limits or decision were changed by hand: they no longer match provenance.digest, so the predictions in the "
        "file do not apply to them. Plan again, or run the edited one with --accept-edits."
    ),
    "plan-field": (
        "Fields of the plan file are wrong or missing. All of them are reported at once with their lines. Sections: limits, "
        "verdict, model, machine, apply, predicted, techniques, quality, export, measured, provenance; `advisor schema plan` "
        "has the JSON Schema."
    ),
    "plan-format": (
        "The plan file's format has another major version, or is not quoted text. Minor versions only add keys; a reader must "
        "refuse another major."
    ),
    "plan-inconsistent": (
        "The settings under `apply` in the plan file do not follow from its list of techniques, so it is not clear which of "
        "the two is intended. Edit both, or plan again with --require or --forbid."
    ),
    "plan-stale": (
        "The plan was made for another machine or another model than the present one, so its predictions do not apply. Nothing "
        "was run. The help line has the command that makes a plan for this machine."
    ),
    "profile-ambiguous": (
        "In `plan --profile WORD` without another word, WORD could be a profile or the model. Write --profile=NAME for a "
        "profile, or put the model first."
    ),
    "profile-elsewhere": (
        "--hardware names one machine and the profile is of another: --profile without a name measures this machine. "
        "Drop one of them, or name a profile of that machine with --profile=NAME."
    ),
    "profile-failed": (
        "Measuring this machine failed; the notes have the last output of the child process. Nothing was stored. --profile=none plans "
        "from the data sheet."
    ),
    "profile-not-found": (
        "No measured profile of that name is stored, or the file does not exist. `advisor profile list` lists them; `advisor "
        "profile run --name NAME` makes one."
    ),
    "quality-failed": ("The quality of a technique could not be measured; the message and the notes have the output of the child process."),
    "range-missed": ("With --strict: the full stack ran and met its limits, but a measured value lies outside its predicted 90 % range."),
    "reference-missing": (
        "Quality is measured against the unmodified model's own scores on the same text; the baseline did not store them."
    ),
    "request-too-long": "A request is longer than the maximum sequence length the runtime was set up for.",
    "requirement-refused": (
        "A technique that --require names refuses this model, workload or machine, so no plan can contain it; the notes have the reason."
    ),
    "run-busy": (
        "Another process is running a plan in that folder; the message gives its process id, and nothing was changed. Wait until it "
        "ends, or choose another folder with --out. The lock (a file `.lock` in the folder) ends with its process, also when that was "
        "killed: the next run takes the folder over."
    ),
    "run-exists": "The run folder holds another run, which is not overwritten. Name another folder with --out.",
    "run-file": "The file is not a run of `advisor apply`: not JSON, or a field is wrong; the message names it.",
    "rung-failed": (
        "At least one process of the ladder failed or ran out of memory; the notes say which and why. The other rungs were "
        "measured and are kept in run.json; the logs are in the run folder. The same command with the same --out measures only "
        "what is missing."
    ),
    "runtime-not-installed": (
        "Planning needs no torch; measuring, applying and the demonstration do. Install the extra: pip install 'advisor[run]'."
    ),
    "technique-option": (
        "A technique was given an option that it does not have, or a value of another kind; the help line lists its options."
    ),
    "terminated": "The command was stopped by SIGTERM. Finished measurements are kept; no file is incomplete.",
    "text-not-found": "The text that quality is measured on does not exist.",
    "text-too-short": "The text has fewer tokens than measuring quality needs.",
    "tokenizer-broken": "The model folder's tokenizer files cannot be read.",
    "tokenizer-mismatch": (
        "The tokenizer produces ids that the model has no embedding for, or a draft model's tokenizer differs from its target's: it "
        "belongs to another model."
    ),
    "tokenizer-not-found": "The model folder has no tokenizer; texts cannot be turned into tokens.",
    "too-large": "The file is larger than the maximum for its kind and is not read.",
    "topic-not-found": "There is no page of that name. `advisor explain` alone lists every topic.",
    "unknown-format": "No number format of that name is known; the message lists them.",
    "unknown-technique": "No technique of that name is known. `advisor explain` alone lists them.",
    "unsupported-format": "The runtime's KV cache does not support this number format.",
    "unsupported-model": (
        "The runtime would not give the model's own tokens. It requires the attention interface of transformers, causal attention over "
        "keys and values alone, and positions that are given to the model; before its first use a model is compared with its own code, and "
        "the message names the difference."
    ),
    "usage": "The command line is wrong: an unknown command or flag, a missing argument, or flags that exclude each other.",
    "vocabulary-differs": "A draft model and its target must have the same vocabulary, token by token; these do not.",
    "weights-missing": "The model folder lacks a weight file, or its index names one that is not there. Fetch the model again.",
    "weights-not-found": ("Only the architecture of the plan's model is available. Give the folder with its weights: --model DIR."),
    "weights-pickled": (
        "The model folder has its weights as Python pickles only, which can run any code when they are loaded. Convert them to "
        "safetensors, or fetch the model in that form."
    ),
    "weights-truncated": (
        "A weight file is shorter than its own header says, as after a download that was cut off. Fetch the model again."
    ),
}
