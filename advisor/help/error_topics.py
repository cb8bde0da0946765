"""The long text of every error code, for `advisor explain CODE`."""

ERROR_PAGES: dict[str, str] = {
    "nothing-to-refit": (
        "`advisor profile refit` teaches the profile that a plan was made with from the run of that plan. It needs the run folder as "
        "`advisor apply` wrote it, with plan.yaml, a plan that was made from a measured profile, and a rung that was measured."
    ),
    "bad-cases": (
        "The file is no table of measurements: a column is missing, or it is not CSV. One row per metric; the message names the columns."
    ),
    "bad-engine": "An engine profile that ships with advisor, or one you wrote, has a wrong or missing field; the message names it.",
    "bad-group-size": "The rows of a weight matrix cannot be cut into groups of this size. Choose a group size that divides them.",
    "bad-hardware": (
        "A hardware file has a wrong or missing field; the message names it. Files are YAML, one device each, a source per figure."
    ),
    "bad-keymap": (
        "The keymap file maps ids of keys to other keys, an id a line, such as `plan.save: f9`. Help in the session (?) shows every id."
    ),
    "bad-profile": (
        "A profile file was read as YAML but a field is wrong or missing. Measure again with `advisor profile run --name NAME`."
    ),
    "bad-profile-name": (
        "Profile names are lower-case letters, digits and hyphens, and never now, auto or none, so that no model id and no "
        "keyword can be taken for one. A profile file has a slash in its path or ends in .yaml."
    ),
    "bad-run": "A run was asked for with settings that contradict each other; the message says which.",
    "bad-session": (
        "The file that `advisor --resume` begins from cannot be read: it was edited, or is of a later version. `advisor` without "
        "--resume begins a new session and keeps that file aside; saved plans and runs are not in it."
    ),
    "bad-trace": (
        "The file given with `--load-trace` is no table of requests. It is CSV whose first line names its columns, or one JSON object a "
        "line; each request has arrival_s (seconds, from any start), prompt_tokens and output_tokens. Other columns are left alone."
    ),
    "bad-value": (
        "A flag's value is not a number of its kind, or is zero or negative where that limits nothing that can be met. Times "
        "are in ms (500, 500ms, 0.5s), sizes in GiB (24, 24GiB, 24GB), tokens plain or with k for 1024 (8k). Leave a flag out "
        "for no limit."
    ),
    "bad-yaml": (
        "The file is not YAML as advisor reads it: well-formed, UTF-8, no anchors or aliases, no tags, no key twice, not nested "
        "deeply. The message has the line."
    ),
    "cancelled": "The work was cancelled before anything of it was measured; nothing was changed. Start it again when it suits.",
    "compiler-not-found": (
        "A technique compiles its kernels when it is applied, and the tools for that are not on this machine: a C++ compiler for a CPU, "
        "triton for a GPU. `advisor doctor` shows what was found. Nothing was run."
    ),
    "context-too-long": (
        "The prompt and the output together are longer than the model was trained for. Ask for fewer tokens with --context."
    ),
    "crashed": (
        "A child process that was measuring ended by an error in it or in a library. What was measured before is kept in the "
        "run folder, with the child's own log."
    ),
    "disk-full": (
        "There was no space left to write a file. Files are written whole or not at all: an older file of that name is "
        "untouched. Free some space, or name another folder with --out or -o."
    ),
    "draft-not-found": "The draft model of the plan is not in its folder.",
    "engine-not-applied": (
        "`advisor apply` runs plans on the project's own runtime only. A plan for a serving engine is a prediction for that engine."
    ),
    "engine-not-found": "No serving engine of that name is known. `advisor` is our own runtime; the message lists the others.",
    "file-not-found": "The named file does not exist. Paths are relative to the current folder.",
    "hardware-not-found": (
        "No accelerator of that id is known. `advisor hardware` lists every id; `advisor hardware detect` shows this machine."
    ),
    "hardware-unknown": (
        "This machine's accelerator is not in the catalogue and its driver says too little to compute its figures. Name one "
        "with --hardware ID, or measure with --profile."
    ),
    "hub-unreachable": "The Hugging Face hub could not be reached. Give a model folder, or an id that `advisor models` lists.",
    "internal": (
        "A fault in advisor itself. The full trace is in the file that the message names; add it and the output of `advisor "
        "doctor` to a bug report."
    ),
    "interrupted": "The command was stopped by Ctrl-C. What had been measured is kept; nothing was half written.",
    "kv-pool-too-small": "One request alone needs more KV cache than the pool has. Ask for a shorter context, or allow more memory.",
    "limit-missed": (
        "The full stack ran, and a measured value does not keep a limit of the plan. The notes have both numbers; `advisor "
        "compare` shows where prediction and measurement part."
    ),
    "model-config": (
        "The model's config.json lacks a field, or has one that makes no sense; the message names it. Without it the shapes of "
        "the model are not known."
    ),
    "model-gated": (
        "The model's files are only given to logged-in users whom its owner has let in. Log in with `hf auth login`, or give a "
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
    "no-plan": (
        "No stack of techniques meets all limits on this hardware. The nearest plan is printed and saved with verdict.status "
        "misses. The help lines give, for each limit, the smallest change that would let a plan in."
    ),
    "no-such-plan": (
        "`advisor plan --choose ID` takes an id of the table that `advisor plan` prints, or of the planning session, for the same model, "
        "machine and limits: ids of another question name other plans. The help line lists those of the frontier."
    ),
    "not-a-terminal": (
        "`advisor` without a command opens the planning session, which reads keys from stdin and draws on stderr. Both must be a "
        "terminal. In a pipe or a job use the commands: they print the same."
    ),
    "not-readable": "The file exists but cannot be read: see its permissions, or whether it is a folder.",
    "not-utf8": "Plan, profile and run files are UTF-8 text; this one is not. The message has the line.",
    "not-measurable": (
        "`advisor quality` measures techniques by themselves that change what attention reads: formats of the cache, windows, "
        "patterns. What others cost shows in the run of a plan that has them."
    ),
    "not-writable": (
        "A file could not be written, for the reason in the message: no permission, no such folder, a folder of that name. An older file "
        "of that name is untouched. Name another place with the flag that names the file."
    ),
    "nothing-to-quantise": "The model has no linear layers that this format could hold.",
    "out-of-memory": (
        "The process needed more memory than there is, or than it was allowed. While applying, this counts as a measurement: "
        "the rungs before it are kept, and the prediction of memory is shown beside it."
    ),
    "plan-edited": (
        "The plan's limits or decision were changed by hand: they no longer match provenance.digest, so the predictions in the "
        "file are for something else. Plan again, or run the edited one with --accept-edits."
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
        "The settings under `apply` in the plan file are not what its list of techniques makes, so it is not clear which of "
        "them is meant. Edit both, or plan again with --require or --forbid."
    ),
    "plan-stale": (
        "The plan was made for another machine or another model than the one at hand, so its numbers do not hold here. Nothing "
        "was run. The help line has the command that plans for what is here."
    ),
    "profile-ambiguous": (
        "In `plan --profile WORD` without another word, WORD could be a profile or the model. Write --profile=NAME for a "
        "profile, or put the model first."
    ),
    "profile-elsewhere": (
        "--hardware names one machine and the profile is of another: --profile without a name measures the machine at hand. "
        "Drop one of them, or name a profile that was taken there with --profile=NAME."
    ),
    "profile-failed": (
        "Measuring this machine failed; the notes have what the child process said. Nothing was stored. --profile=none plans "
        "from the data sheet meanwhile."
    ),
    "profile-not-found": (
        "No measured profile of that name is stored, or the file does not exist. `advisor profile list` lists them; `advisor "
        "profile run --name NAME` makes one."
    ),
    "quality-failed": ("The quality of a technique could not be measured; the message and the notes have what the child process said."),
    "range-missed": ("With --strict: the full stack ran and kept its limits, but a measured value lies outside its predicted 90 % range."),
    "reference-missing": (
        "Quality is measured against the unmodified model's own scores on the same text; the baseline did not leave them."
    ),
    "request-too-long": "A request is longer than the sequences the runtime was set up for.",
    "requirement-refused": (
        "A technique that --require names refuses this model, workload or machine, so no stack has it; the notes have its reason."
    ),
    "run-exists": "The run folder holds another run, which is not overwritten. Name another folder with --out.",
    "run-file": "The file is not a run of `advisor apply`: not JSON, or a field is wrong; the message names it.",
    "rung-failed": (
        "At least one process of the ladder died or ran out of memory; the notes say which and why. The other rungs were "
        "measured and are kept in run.json; the logs are in the run folder. The same command with the same --out measures only "
        "what is missing."
    ),
    "runtime-not-installed": (
        "Planning needs no torch; measuring, applying and the demonstration do. Install the extra: pip install 'advisor[run]'."
    ),
    "technique-option": (
        "A technique was given an option that it does not have, or a value of another kind; the help line lists its options."
    ),
    "terminated": "The command was stopped by SIGTERM. What had been measured is kept; nothing was half written.",
    "text-not-found": "The text that quality is measured on does not exist.",
    "text-too-short": "The text has fewer tokens than measuring quality needs.",
    "tokenizer-broken": "The model folder's tokenizer files cannot be read.",
    "tokenizer-mismatch": (
        "The tokenizer makes ids that the model has no embedding for, or a draft's tokenizer differs from its target's: it "
        "belongs to another model."
    ),
    "tokenizer-not-found": "The model folder has no tokenizer; texts cannot be turned into tokens.",
    "too-large": "The file is larger than any file of its kind should be, and is not read.",
    "topic-not-found": "There is no page of that name. `advisor explain` alone lists every topic.",
    "unknown-format": "No number format of that name is known; the message lists them.",
    "unknown-technique": "No technique of that name is known. `advisor explain` alone lists them.",
    "unsupported-format": "The runtime's cache does not hold this number format.",
    "unsupported-model": "The model does not use the attention interface of transformers, which the runtime plugs into.",
    "usage": "The command line is wrong: an unknown command or flag, a missing word, or flags that exclude each other.",
    "vocabulary-differs": "A draft and its target must share one vocabulary, token by token; these do not.",
    "weights-missing": "The model folder lacks a weight file, or its index names one that is not there. Fetch the model again.",
    "weights-not-found": ("The plan names a model of which only the architecture is here. Give the folder with its weights: --model DIR."),
    "weights-pickled": (
        "The model folder has its weights as Python pickles only, which can run any code when they are loaded. Convert them to "
        "safetensors, or fetch the model in that form."
    ),
    "weights-truncated": (
        "A weight file is shorter than its own header says, as after a download that was cut off. Fetch the model again."
    ),
}
