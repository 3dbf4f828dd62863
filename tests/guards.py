"""Whether a test fails without the guard that it is for: each guard is taken out of a copy of the project, and its test is run.

`python tests/guards.py` tries all of `GUARDS`, of the rows of "Bad input" and "Faults" in docs/reliability.md and of faults of
the app's pages that were mended ("page: ..."), and prints a line for each; it exits with 1 when a test passes without its guard.
`--only WORD` tries the rows that hold a word.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
COPIED = ("rag_vs_ft", "app", "tests", "benchmarks", "docs", "eval", "README.md", "pyproject.toml")


@dataclass(frozen=True)
class Guard:
    """What is protected (a row of the page), by which text of which file, what stands there without it, and who notices."""

    row: str
    file: str
    text: str
    without: str
    tests: str


READING = "rag_vs_ft/corpus/"
ASK = "app/test_page_ask.py::test_"
INSIDE = "app/test_pages_inside.py::test_"
ARMS = "app/test_pages_arms.py::test_"
EXPERIMENTS = "app/test_pages_experiments.py::test_"
BROWSER = "app/test_browser.py::test_"
GUARDS = (
    Guard(
        "empty corpus folder",
        READING + "store.py",
        "if not table.marks:",
        "if False:",
        "corpus/test_store.py::test_a_source_without_documents_leaves_nothing",
    ),
    Guard(
        "empty file",
        READING + "reading.py",
        "if not content.text.strip():",
        "if False:",
        "corpus/test_store.py::test_what_is_skipped_and_mended_is_counted",
    ),
    Guard(
        "front matter unclosed",
        READING + "front_matter.py",
        r'^(?:---|\.\.\.)[ \t]*$\n?"',
        r'(?:^(?:---|\.\.\.)[ \t]*$\n?|\Z)"',
        "corpus/test_front_matter.py::test_unclosed_head_is_body",
    ),
    Guard(
        "bad YAML",
        READING + "front_matter.py",
        "except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:",
        "except ZeroDivisionError as error:",
        "corpus/test_front_matter.py::test_broken_head_keeps_the_document_and_its_title",
    ),
    Guard(
        "bad YAML: object tags",
        READING + "front_matter.py",
        '_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)',
        "_LOADER = yaml.UnsafeLoader",
        "corpus/test_front_matter.py::test_no_alias_is_followed_and_no_object_made",
    ),
    Guard(
        "bad YAML: alias bombs",
        READING + "front_matter.py",
        " or isinstance(event, yaml.AliasEvent)",
        "",
        "corpus/test_front_matter.py::test_no_alias_is_followed_and_no_object_made",
    ),
    Guard(
        "bytes that are not UTF-8",
        READING + "text.py",
        'return data.decode("utf-8-sig", errors="replace"), True',
        'return data.decode("utf-8-sig"), True',
        "corpus/test_text.py",
    ),
    Guard(
        "bytes that are not UTF-8: UTF-16",
        READING + "text.py",
        "if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):",
        "if False:",
        "corpus/test_text.py",
    ),
    Guard("bytes that are not UTF-8: NUL", READING + "text.py", 'if b"\\0" in data[:8192]:', "if False:", "corpus/test_text.py"),
    Guard(
        "large files",
        READING + "sources.py",
        "> entry.max_bytes:",
        "> 1 << 60:",
        "corpus/test_sources.py::test_every_file_that_is_left_out_has_a_reason",
    ),
    Guard(
        "files that are not documents",
        READING + "sources.py",
        "reason = _skip_by_name(path, repositories)",
        'reason = ""',
        "corpus/test_sources.py::test_every_file_that_is_left_out_has_a_reason",
    ),
    Guard(
        "a huge line",
        "rag_vs_ft/index/chunking.py",
        "for cut in inside[room::room]:",
        "for cut in ():",
        "index/test_chunking.py::test_a_huge_unbroken_line_is_cut_in_time",
    ),
    Guard(
        "Markdown bombs",
        READING + "markdown/parser.py",
        '    if env["steps"] > FREE_STEPS + STEPS_PER_CHARACTER * env["length"]:',
        "    if False:",
        "corpus/markdown/test_work.py::test_a_file_that_wants_too_much_is_left_out_with_its_reason",
    ),
    Guard(
        "headings inside fences",
        "rag_vs_ft/index/chunking.py",
        'elif block.kind == "fence":',
        "elif False:",
        "index/test_chunking.py::test_a_code_block_larger_than_a_chunk_is_cut_at_lines_inside_fences",
    ),
    Guard(
        "includes that leave the folder",
        READING + "markdown/builder.py",
        'if not name.startswith(("../", "/")) and',
        "if",
        "corpus/markdown/test_dialect_learn.py::test_includes_outside_or_missing_are_dropped_and_counted",
    ),
    Guard(
        "includes that lead in a circle",
        READING + "markdown/builder.py",
        "if where in above:",
        "if False:",
        "corpus/markdown/test_dialect_learn.py::test_include_cycles_depth_and_fan_out",
    ),
    Guard(
        "includes that go too deep",
        READING + "markdown/builder.py",
        "elif len(above) > MAX_INCLUDE_DEPTH:",
        "elif False:",
        "corpus/markdown/test_dialect_learn.py::test_include_cycles_depth_and_fan_out",
    ),
    Guard(
        "includes that grow",
        READING + "markdown/builder.py",
        "elif self.included + len(text) > MAX_INCLUDED_CHARACTERS:",
        "elif False:",
        "corpus/markdown/test_dialect_learn.py::test_include_cycles_depth_and_fan_out",
    ),
    Guard(
        "links, pipes, devices",
        READING + "sources.py",
        "elif entry.is_file(follow_symlinks=False):",
        "elif entry.is_file():",
        "corpus/test_sources.py::test_links_pipes_and_strange_names",
    ),
    Guard(
        "strange names",
        READING + "sources.py",
        "            if not _is_utf8(entry.name):",
        "            if False:",
        "corpus/test_sources.py::test_links_pipes_and_strange_names",
    ),
    Guard(
        "paths that differ by case",
        READING + "sources.py",
        "for path in sorted(walk.files, key=visible):",
        "for path in sorted({path.lower(): path for path in walk.files}.values(), key=str.lower):",
        "corpus/test_store.py::test_ids_are_in_order_of_code_points_and_case_counts",
    ),
    Guard(
        "the same content twice",
        "rag_vs_ft/index/build.py",
        "missing = np.flatnonzero((in_known < 0) & (places(keys, store.known()) < 0))",
        "missing = np.concatenate([np.flatnonzero((in_known < 0) & (places(keys, store.known()) < 0))] * 2)",
        "index/test_build_and_search.py::test_identical_texts_are_embedded_once",
    ),
    Guard(
        "unreadable and vanishing files",
        READING + "sources.py",
        'raise LeftOut("unreadable", error.strerror or str(error)) from error',
        "raise",
        "corpus/test_sources.py::test_files_that_vanish_or_cannot_be_read",
    ),
    Guard(
        "unreadable and vanishing files: a link in their place",
        READING + "sources.py",
        'os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)',
        "os.O_RDONLY",
        "corpus/test_sources.py::test_files_that_vanish_or_cannot_be_read",
    ),
    Guard(
        "control tokens in text",
        "rag_vs_ft/models/prompting.py",
        "split_special_tokens=not control",
        "split_special_tokens=False",
        "models/test_prompting.py::test_control_tokens_in_documents_and_questions_stay_text",
    ),
    Guard(
        "control tokens in training text",
        "rag_vs_ft/training/tokenizers.py",
        "return list(tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True",
        "return list(tokenizer(list(texts), add_special_tokens=False, split_special_tokens=False",
        "training/test_tokens.py::test_any_text_comes_back",
    ),
    Guard(
        "control tokens in instructions",
        "rag_vs_ft/training/tokenizers.py",
        "return list(tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True",
        "return list(tokenizer(list(texts), add_special_tokens=False, split_special_tokens=False",
        "training/test_data.py::test_control_tokens_in_records_are_text",
    ),
    Guard(
        "zero-width, bidirectional, terminal escapes",
        READING + "text.py",
        'text = _REMOVED.sub("", _NEWLINES.sub("\\n", text))',
        'text = _NEWLINES.sub("\\n", text)',
        "corpus/test_text.py::test_normalise_removes_what_cannot_be_seen",
    ),
    Guard(
        "terminal escapes, printed",
        "rag_vs_ft/cli/common.py",
        "super().write(printable(text))",
        "super().write(text)",
        "test_output.py::test_standard_output_shows_escapes_and_json_keeps_its_meaning",
    ),
    Guard(
        "HTML, scripts, remote images",
        "rag_vs_ft/evaluation/render.py",
        "from html import escape",
        "escape = str",
        "evaluation/test_report.py",
    ),
    Guard(
        "HTML, scripts, remote images: the report's policy",
        "rag_vs_ft/evaluation/render.py",
        "{POLICY}<title>",
        "<title>",
        "evaluation/test_report.py::test_the_page_is_whole_and_fetches_nothing",
    ),
    Guard(
        "instructions in a passage",
        "rag_vs_ft/models/prompting.py",
        "_Piece(_message(question, hits, words), False)",
        "_Piece(_message(question, hits, words), True)",
        "evaluation/test_injection.py",
    ),
    Guard(
        "empty and odd queries",
        "rag_vs_ft/index/search.py",
        "    if not query:\n",
        "    if False:\n",
        "index/test_build_and_search.py::test_an_empty_question_is_refused",
    ),
    Guard(
        "empty and odd queries: a long one",
        "rag_vs_ft/index/search.py",
        "return query[:limit], (",
        "return query, (",
        "index/test_build_and_search.py::test_a_question_that_is_too_long_is_cut_and_that_is_said",
    ),
    Guard(
        "k out of range",
        "rag_vs_ft/index/search.py",
        "    if not 1 <= k <= settings.MAX_HITS:",
        "    if False:",
        "index/test_build_and_search.py::test_k_out_of_range",
    ),
    Guard(
        "NaN and infinite settings",
        "rag_vs_ft/training/presets.py",
        "allow_inf_nan=False",
        "allow_inf_nan=True",
        "training/test_presets.py::test_mistakes_are_named",
    ),
    Guard(
        "prompt over the window",
        "rag_vs_ft/models/prompting.py",
        "    if bare > budget:",
        "    if False:",
        "models/test_prompting.py::test_a_question_is_never_cut",
    ),
    Guard(
        "prompt over the window: passages",
        "rag_vs_ft/models/prompting.py",
        "    used = ranked[:fitting]\n",
        "    used = ranked[:]\n",
        "models/test_prompting.py test_fuzz.py::test_a_prompt_never_exceeds_its_budget_and_holds_the_whole_question",
    ),
    Guard(
        "index of another embedder",
        "rag_vs_ft/index/search.py",
        "if different := recorded.differences(embedder.id):",
        "if different := ():",
        "index/test_build_and_search.py::test_another_embedder_is_refused_with_the_command_that_mends_it",
    ),
    Guard(
        "index of another analyzer",
        "rag_vs_ft/index/search.py",
        "if found != lexical.VERSION:",
        "if False:",
        "index/test_build_and_search.py::test_another_analyzer_is_refused",
    ),
    Guard(
        "index of another format",
        "rag_vs_ft/index/manifest.py",
        'if record.get("format") != FORMAT:',
        "if False:",
        "index/test_generations.py::test_a_manifest_of_another_shape_is_named_and_the_generation_before_answers",
    ),
    Guard(
        "hostile manifest: files elsewhere",
        "rag_vs_ft/index/manifest.py",
        "if not manifest.files or not inside:",
        "if False:",
        "index/test_generations.py::test_a_manifest_of_another_shape_is_named_and_the_generation_before_answers",
    ),
    Guard(
        "hostile manifest: of another generation",
        "rag_vs_ft/index/manifest.py",
        "if manifest.generation != path.parent.name:",
        "if False:",
        "index/test_generations.py::test_a_manifest_of_another_shape_is_named_and_the_generation_before_answers",
    ),
    Guard(
        "hostile index: a changed file",
        "rag_vs_ft/index/generations.py",
        "elif files.sha256_file(path) != expected.sha256:",
        "elif False:",
        "index/test_faults.py::test_a_flipped_byte_in_any_file_is_found_and_named",
    ),
    Guard(
        "hostile index: a header that promises too much",
        "rag_vs_ft/index/damage.py",
        "except (RuntimeError, ValueError, KeyError, TypeError) as error:",
        "except ZeroDivisionError as error:",
        "index/test_dense.py::test_a_header_that_promises_other_rows_than_there_are_is_refused",
    ),
    Guard(
        "hostile index: an array of objects",
        "rag_vs_ft/index/dense.py",
        'mmap_mode="r", allow_pickle=False)',
        "allow_pickle=True)",
        "index/test_dense.py::test_no_object_is_made_of_an_array_of_objects",
    ),
    Guard(
        "hostile model: a header that promises too much",
        "rag_vs_ft/models/folders.py",
        '            if stop - start != math.prod(shape) * _BYTES[facts["dtype"]]:',
        "            if False:",
        "models/test_hostile.py::test_a_header_of_weights_that_cannot_be",
    ),
    Guard(
        "hostile model: a template without an end",
        "rag_vs_ft/models/chat_child.py",
        "resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))",
        "pass",
        "models/test_hostile.py::test_a_chat_template_that_harms",
    ),
    Guard(
        "hostile model: a template that takes all memory",
        "rag_vs_ft/models/chat_child.py",
        "resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))",
        "pass",
        "models/test_hostile.py::test_a_chat_template_that_harms",
    ),
    Guard(
        "hostile manifest: nested deep",
        "rag_vs_ft/files.py",
        "if _deeper(value, MAX_DEPTH):",
        "if False:",
        "test_files.py::test_json_of_another_shape_is_named",
    ),
    Guard(
        "bad question sets",
        "rag_vs_ft/evaluation/questions.py",
        "if name in first_line_of:",
        "if False:",
        "evaluation/test_questions.py::test_every_fault_of_a_file_is_named_at_once",
    ),
    Guard(
        "bad question sets: gold that is not in the corpus",
        "rag_vs_ft/evaluation/questions.py",
        'faults.append(Fault(line, "gold_documents", f"{name!r} is not in the corpus"))',
        "pass",
        "evaluation/test_questions.py::test_what_is_not_true_to_the_documents_is_a_fault",
    ),
    Guard(
        "test questions in training text",
        "rag_vs_ft/evaluation/leaks.py",
        'look(f"training text {name}", _Text(written))',
        "pass",
        "evaluation/test_leaks.py::test_training_text_is_searched_for_questions_and_long_answers",
    ),
    Guard(
        "bad experiment files",
        "rag_vs_ft/evaluation/experiments.py",
        'extra="forbid"',
        'extra="ignore"',
        "evaluation/test_experiments.py::test_all_faults_are_named_at_once",
    ),
    Guard(
        "names that Windows keeps for devices",
        "rag_vs_ft/settings.py",
        "or len(name) > 100 or reserved:",
        "or len(name) > 100:",
        "test_platforms.py::test_names_are_refused_that_some_system_has_no_file_for",
    ),
    Guard(
        "names of other sites (DNS rebinding)",
        "rag_vs_ft/serving.py",
        'if (urlsplit(f"//{host}").hostname or "") not in names:',
        "if False:",
        "app/test_serving.py::test_foreign_names_and_origins_get_nothing_and_nothing_is_asked_outside",
    ),
    # --- faults ---
    Guard(
        "full or failing disk",
        "rag_vs_ft/files.py",
        "            publish(temporary, path)\n    except BaseException:\n        discard(temporary)\n        raise",
        "            publish(temporary, path)\n    except ZeroDivisionError:\n        raise",
        "test_files.py test_interrupted.py::test_a_corpus_survives_faults_at_any_step",
    ),
    Guard(
        "full or failing disk: the last checkpoint",
        "rag_vs_ft/training/runs.py",
        "    except (OSError, SafetensorError) as error:",
        "    except ZeroDivisionError as error:",
        "training/test_train.py::test_full_disk_leaves_the_last_checkpoint_whole",
    ),
    Guard(
        "a byte flipped",
        "rag_vs_ft/files.py",
        "if record[SEAL] != content_sha256(content):",
        "if False:",
        "test_damage.py::test_damage_of_every_file_is_named",
    ),
    Guard(
        "a byte flipped: a conversion in the cache",
        "rag_vs_ft/conversions.py",
        "        return files.damage(folder,",
        "        return files.damage(folder, {}) or (lambda *_: None)(folder,",
        "index/test_embedding.py::test_a_damaged_export_is_named_and_made_again",
    ),
    Guard(
        "a file truncated",
        "rag_vs_ft/index/generations.py",
        "        if size != expected.bytes:",
        "        if False:",
        "index/test_generations.py::test_a_damaged_generation_is_passed_over_with_a_warning",
    ),
    Guard(
        "a file added",
        "rag_vs_ft/index/generations.py",
        'for name in sorted(there - set(listed) - {"manifest.json"})]',
        "for name in ()]",
        "index/test_generations.py::test_verify_names_the_damaged_file",
    ),
    Guard(
        "CURRENT empty, garbage or leading nowhere",
        "rag_vs_ft/index/generations.py",
        "*(name for name in reversed(names) if name not in {pointed, *rejected})]",
        "]",
        "index/test_generations.py::test_a_bad_pointer_falls_back_to_the_newest",
    ),
    Guard(
        "a rollback leads forward",
        "rag_vs_ft/index/generations.py",
        "if name not in {pointed, *rejected})]",
        "if name != pointed)]",
        "test_damage.py::test_a_rollback_leads_never_forward_again",
    ),
    Guard(
        "questions during updates",
        "rag_vs_ft/index/generations.py",
        "KEEP = 2\n",
        "KEEP = 0\n",
        "index/test_build_and_search.py::test_every_answer_during_updates_comes_from_one_generation "
        "index/test_generations.py::test_the_last_published_answers_and_the_one_before_is_kept",
    ),
    Guard(
        "two builds at once",
        "rag_vs_ft/files.py",
        "        held.acquire(timeout=0)\n",
        "        pass\n",
        "index/test_generations.py::test_a_second_build_is_busy_and_a_killed_one_frees_the_lock",
    ),
    Guard(
        "killed while embedding",
        "rag_vs_ft/index/build.py",
        "(places(keys, store.known()) < 0))",
        "(places(keys, None) < 0))",
        "index/test_build_and_search.py::test_a_killed_build_resumes_without_embedding_twice",
    ),
    Guard(
        "killed while embedding: a vector that changed meanwhile",
        "rag_vs_ft/index/build.py",
        "if _checksum(key, vector) != checksum:",
        "if False:",
        "index/test_faults.py::test_what_is_damaged_in_the_store_of_a_killed_build_is_embedded_again",
    ),
    Guard(
        "killed in training",
        "rag_vs_ft/training/engine.py",
        "    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:\n        if checkpoint is None:",
        "    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:\n        if True:",
        "training/test_train.py::test_resume_after_kill_is_bit_for_bit",
    ),
    Guard(
        "killed in training: between a checkpoint and its links",
        "rag_vs_ft/training/runs.py",
        "    if best.is_dir():",
        "    if False:",
        "training/test_train.py::test_a_run_that_died_before_best_was_pointed_to_ends_as_one_that_did_not",
    ),
    Guard(
        "a damaged checkpoint",
        "rag_vs_ft/training/runs.py",
        "        problem = check_checkpoint(place)\n        if problem is None:",
        "        problem = check_checkpoint(place)\n        if True:",
        "training/test_train.py::test_resume_after_kill_is_bit_for_bit",
    ),
    Guard(
        "a reader that dies or hangs",
        READING + "child.py",
        "        except (EOFError, OSError, ValueError) as error:",
        "        except ZeroDivisionError as error:",
        "corpus/test_reading.py::test_what_goes_wrong_in_a_reader_costs_its_file",
    ),
    Guard(
        "a reader that takes all memory",
        READING + "child.py",
        "    _limit_memory()\n    sys.setrecursionlimit",
        "    sys.setrecursionlimit",
        "corpus/test_reading.py::test_what_goes_wrong_in_a_reader_costs_its_file",
    ),
    Guard(
        "a worker that dies",
        "rag_vs_ft/engines.py",
        """                if event.kind == "died":
                    if given_up""",
        """                if False:
                    if given_up""",
        "test_engines.py::test_the_shard_of_a_worker_that_dies_or_hangs_is_given_to_another",
    ),
    Guard(
        "a worker that hangs",
        "rag_vs_ft/engines.py",
        "in books.busy.items() if end <= now]:",
        "in books.busy.items() if False]:",
        "test_engines.py::test_the_shard_of_a_worker_that_dies_or_hangs_is_given_to_another",
    ),
    Guard(
        "a job's process killed",
        "rag_vs_ft/jobs.py",
        "    if _alive(job):",
        "    if True:",
        "test_jobs.py::test_a_killed_process_is_told",
    ),
    Guard(
        "the page: a failure that nobody expected",
        "app/resources.py",
        '_LOG.error("[%s] %s", log_id, what, exc_info=error)',
        "pass",
        "app/test_page_ask.py::test_failure_that_nobody_expected_shows_a_log_id",
    ),
    Guard(
        "the page: a traceback with its paths",
        "rag_vs_ft/serving.py",
        '"client.showErrorDetails": "none"',
        '"client.showErrorDetails": "full"',
        "app/test_verb.py::test_nothing_is_reported_and_no_file_is_served",
    ),
    Guard(
        "the page: locked or read-only database",
        "rag_vs_ft/database.py",
        "    except (sqlite3.Error, OSError) as error:",
        "    except ZeroDivisionError as error:",
        "app/test_feedback.py::test_a_file_that_is_no_database_a_lock_and_a_read_only_folder_are_user_errors",
    ),
    Guard(
        "a model's server that is slow, down or talks nonsense",
        "rag_vs_ft/models/served.py",
        "except _Passing as error:",
        "except ZeroDivisionError as error:",
        "models/test_served.py::test_nobody_is_there models/test_served.py::test_faults_end_in_an_error_after_some_tries",
    ),
    # --- the app's pages: each fault was there once ---
    Guard(
        "page: each run collects all garbage",
        "rag_vs_ft/serving.py",
        '"runner.postScriptGC": False',
        '"runner.postScriptGC": True',
        "app/test_verb.py::test_nothing_is_reported_and_no_file_is_served",
    ),
    Guard(
        "page: work in a thread of the server",
        "app/progress_panel.py",
        "    job = jobs.start(home(), work, title, arguments)\n",
        "    from background import shared\n    from rag_vs_ft.work import WORK\n\n"
        "    shared(title, title, lambda progress: WORK[work](home(), progress, **arguments))\n"
        '    job = jobs.Job("", work, title, arguments, 0.0, 0, 0.0)\n',
        INSIDE + "update_goes_on_in_the_background_and_is_told",
    ),
    Guard(
        "page: a job does not give way to questions",
        "rag_vs_ft/jobs.py",
        "        os.nice(NICENESS)",
        "        pass",
        EXPERIMENTS + "a_run_with_changed_settings_is_stopped_and_resumed_from_the_page",
    ),
    Guard(
        "page: another index answers silently",
        "app/addressed.py",
        "    if gone:\n",
        "    if False:\n",
        ASK + "what_the_address_names_and_is_not_there_is_said_and_nothing_answers_instead",
    ),
    Guard(
        "page: another index answers an open conversation",
        "app/addressed.py",
        "or st.session_state.get(key) or []\n",
        "or []\n",
        ASK + "an_index_that_was_removed_under_a_conversation_is_said",
    ),
    Guard(
        "page: another index answers a conversation that is opened again",
        "app/views/ask.py",
        "            st.session_state[key] = name\n",
        "            pass\n",
        ASK + "an_index_that_was_removed_under_a_conversation_is_said",
    ),
    Guard(
        "page: what was typed is lost with its index",
        "app/views/ask.py",
        '        if unasked := st.session_state.get("asked"):',
        '        if unasked := "":',
        ASK + "an_index_that_was_removed_under_a_conversation_is_said",
    ),
    Guard(
        "page: a value that cannot be is passed over",
        "app/addressed.py",
        "if given and (len(given) > 1 or not is_one(given[0])):",
        "if False:",
        ASK + "a_value_of_the_address_that_cannot_be_is_said_and_can_be_left",
    ),
    Guard(
        "page: the last of two values is taken",
        "app/addressed.py",
        "(len(given) > 1 or not is_one(given[0]))",
        "not is_one(given[-1])",
        ASK + "of_two_values_in_the_address_none_is_taken",
    ),
    Guard(
        "page: a run that is not there is passed over",
        "app/addressed.py",
        "    _check_written(label, key, None, GONE, lambda _: False)\n",
        "    return\n",
        EXPERIMENTS + "where_nothing_was_run_what_the_address_names_is_said_too",
    ),
    Guard(
        "page: another comparison is shown than the address names",
        "app/views/choose.py",
        'len(known) > 1 or "comparison" in st.query_params',
        "len(known) > 1",
        EXPERIMENTS + "a_run_or_a_comparison_of_the_address_that_is_not_there_is_said",
    ),
    Guard(
        "page: an old run is shown while another trains",
        "app/views/train.py",
        '            state["follow"] = running.arguments["run"]\n',
        "            pass\n",
        EXPERIMENTS + "a_run_with_changed_settings_is_stopped_and_resumed_from_the_page",
    ),
    Guard(
        "page: a run that was stopped is said to train",
        "app/views/train.py",
        'record.state if going or record.state == "finished" else "stopped"',
        "record.state",
        EXPERIMENTS + "a_run_with_changed_settings_is_stopped_and_resumed_from_the_page",
    ),
    Guard(
        "page: a run that was stopped is looked at for good",
        "app/views/train.py",
        "run_every=POLL_SECONDS if going else None)",
        "run_every=POLL_SECONDS)",
        BROWSER + "what_a_page_says_of_work_is_true_when_the_work_is_undone_or_cancelled",
    ),
    Guard(
        "page: what is kept of a stopped run is not said",
        "app/views/train.py",
        'return f"Its last checkpoint is step {steps[-1]:,}." if steps else "No checkpoint was written yet, so it begins again."',
        'return "What is finished is kept."',
        EXPERIMENTS + "a_run_with_changed_settings_is_stopped_and_resumed_from_the_page",
    ),
    Guard(
        "page: the command to resume lacks settings",
        "rag_vs_ft/training/train.py",
        'checked({**record.settings, **asked.overrides}, record.arm, f"run {run_name!r}")',
        "load_preset(record.preset, record.arm, asked.overrides)",
        EXPERIMENTS + "a_run_with_changed_settings_is_stopped_and_resumed_from_the_page",
    ),
    Guard(
        "page: Stopped is not said",
        "app/views/ask.py",
        '            st.caption("Stopped.")\n',
        "            pass\n",
        ASK + "stopping_keeps_what_was_written_and_a_page_change_does_not_stop",
    ),
    Guard(
        "page: Streamlit's own Stop",
        "app/frame.py",
        "[data-testid=stStatusWidget] button { display: none; }\n",
        "",
        BROWSER + "an_answer_can_be_stopped_and_the_next_question_is_answered",
    ),
    Guard(
        "page: a change stops an answer",
        "app/views/ask.py",
        "    running = being_answered(current)\n    title, notes",
        "    running = being_answered(current)\n    if running:\n        stop(running.turn.id)\n    title, notes",
        ASK + "stopping_keeps_what_was_written_and_a_page_change_does_not_stop",
    ),
    Guard(
        "page: what was stopped is not asked again",
        "app/views/ask.py",
        "        show_actions(turn, conversation)\n",
        "        if turn.answer is not None:\n            show_actions(turn, conversation)\n",
        ASK + "stopping_keeps_what_was_written_and_a_page_change_does_not_stop",
    ),
    Guard(
        "page: an update that was undone is told",
        "app/views/index.py",
        "                forget_ended()",
        "                pass",
        INSIDE + "update_goes_on_in_the_background_and_is_told",
    ),
    Guard(
        "page: what ended is told to every visitor",
        "app/progress_panel.py",
        "    if job.id in _watched() or (failures",
        "    if True or (failures",
        INSIDE + "update_goes_on_in_the_background_and_is_told",
    ),
    Guard(
        "page: what ended is told again after another page",
        "app/main.py",
        "    forget_ended()\n",
        "    pass\n",
        INSIDE + "cancelled_build_leaves_the_old_generation",
    ),
    Guard(
        "page: Roll back where there is nothing",
        "app/views/index.py",
        "disabled=running or not earlier",
        "disabled=running",
        INSIDE + "update_goes_on_in_the_background_and_is_told",
    ),
    Guard(
        "page: Evaluate on an index that was rolled back",
        "app/views/evaluate.py",
        "behind = not missing and is_behind(experiment)",
        "behind = False",
        EXPERIMENTS + "an_index_that_is_behind_its_documents_is_updated_before_it_is_evaluated",
    ),
    Guard(
        "page: an echoed [1] moves the citation",
        "rag_vs_ft/models/citing.py",
        "named if named & by_words or not by_words else by_words",
        "named or by_words",
        ASK + "an_answer_says_whether_the_passages_hold_it",
    ),
    Guard(
        "page: marks of lists are shown as an answer",
        "app/views/ask.py",
        "    if is_degenerate(answer.answer):",
        "    if False:",
        ASK + "marks_of_lists_are_not_shown_as_an_answer",
    ),
    Guard(
        "page: marks of lists are waited for",
        "app/answering.py",
        "                raise _Hopeless\n",
        "                pass\n",
        ASK + "a_model_that_writes_marks_of_lists_alone_is_not_waited_for",
    ),
    Guard(
        "page: an answer ends in mid-command",
        "app/views/ask.py",
        "    show_readable(cut_off(answer.answer) if answer.answer and answer.finish in CUT_OFF else answer.answer or EMPTY)\n",
        "    show_readable(answer.answer or EMPTY)\n",
        ASK + "an_answer_that_was_cut_off_looks_so_and_its_code_ends",
    ),
    Guard(
        "page: too long a question does nothing",
        "app/views/ask.py",
        'key="asked", disabled',
        'key="asked", max_chars=2_000, disabled',
        BROWSER + "too_much_text_is_cut_and_said_and_an_index_that_is_gone_answers_nothing",
    ),
    Guard(
        "page: too long a text does nothing",
        "app/views/tokens.py",
        'st.text_area("Text", EXAMPLE, key="text", ',
        'st.text_area("Text", EXAMPLE, MAX_TEXT and None, MAX_TEXT, "text", ',
        BROWSER + "too_much_text_is_cut_and_said_and_an_index_that_is_gone_answers_nothing",
    ),
    Guard(
        "page: a text is cut without a word",
        "app/resources.py",
        '        st.warning(plain(f"{what} has {len(text):,} characters; the first {limit:,} are used."))\n',
        "        pass\n",
        ARMS + "a_raters_name_that_is_too_long_is_cut_and_said",
    ),
    Guard(
        "page: a probe is not said to be one",
        "rag_vs_ft/evaluation/verdict.py",
        'kinds += [] if arm.context in WAYS else ["probe"]',
        "kinds += []",
        EXPERIMENTS + "a_run_of_before_is_shown_whole",
    ),
    Guard(
        "page: how many questions and what chance has",
        "rag_vs_ft/evaluation/report.py",
        "        notes=tuple(notes),\n        drawing",
        "        notes=(),\n        drawing",
        EXPERIMENTS + "a_run_of_before_is_shown_whole",
    ),
    Guard(
        "page: a column without a value",
        "rag_vs_ft/evaluation/report.py",
        "kept = [column for column in cells if any(cell != NONE for cell in column[1:])]",
        "kept = cells",
        EXPERIMENTS + "a_run_of_before_is_shown_whole",
    ),
    Guard(
        "page: the report only as a download",
        "app/views/evaluate.py",
        'views = ["Result", "Report"]',
        'views = ["Result"]',
        EXPERIMENTS + "a_run_of_before_is_shown_whole",
    ),
    Guard(
        "page: disagreements without Next",
        "app/views/evaluate.py",
        '        st.button("Next", on_click=go, args=(1,), disabled=at == len(found) - 1)\n',
        "",
        EXPERIMENTS + "disagreements_are_read_one_after_the_other_with_the_reason",
    ),
    Guard(
        "page: disagreements without a reason",
        "app/views/evaluate.py",
        '    st.warning(plain(f"{wrong} was wrong: {reasons[key]}."))\n',
        "",
        EXPERIMENTS + "disagreements_are_read_one_after_the_other_with_the_reason",
    ),
    Guard(
        "page: Escape loses a note",
        "rag_vs_ft/serving.py",
        " + _HISTORY + _ESCAPE",
        " + _HISTORY",
        BROWSER + "what_was_there_is_there_again_after_a_reload_by_its_link_and_when_the_server_is_back",
    ),
    Guard(
        "page: Back loses a setting",
        "rag_vs_ft/serving.py",
        " + _HISTORY + _ESCAPE",
        " + _ESCAPE",
        BROWSER + "an_answer_can_be_stopped_and_the_next_question_is_answered",
    ),
    Guard(
        "page: a server that is gone is another program's",
        "rag_vs_ft/serving.py",
        '    b"streamlit run yourscript.py": b"rag-vs-ft app",\n',
        "",
        "app/test_serving.py::test_foreign_names_and_origins_get_nothing_and_nothing_is_asked_outside",
    ),
    Guard(
        "page: a conversation is lost with its server",
        "app/views/ask.py",
        '        st.query_params["c"] = id\n',
        "        pass\n",
        ASK + "a_conversation_is_there_again_after_a_reload_and_for_who_has_its_address",
    ),
    Guard(
        "page: some sixty articles",
        "app/first_start.py",
        "in 74 articles",
        "in some sixty articles",
        ASK + "first_start_builds_the_sample",
    ),
    Guard(
        "page: chunk 74 of 74 counts documents",
        "app/progress_panel.py",
        '    "chunk": "Cutting the documents into passages",\n',
        "",
        INSIDE + "progress_has_its_unit_a_total_and_the_time_left",
    ),
    Guard(
        "page: all pages have one title",
        "app/main.py",
        'page_title=f"{page.title} - rag-vs-ft"',
        'page_title="rag-vs-ft"',
        BROWSER + "too_much_text_is_cut_and_said_and_an_index_that_is_gone_answers_nothing",
    ),
    Guard(
        "page: no first heading",
        "app/resources.py",
        "    st.title(plain(text), anchor=False)",
        "    st.subheader(plain(text), anchor=False)",
        ASK + "of_two_values_in_the_address_none_is_taken",
    ),
    Guard(
        "page: nothing says which product this is",
        "rag_vs_ft/serving.py",
        'b"<title>rag-vs-ft</title>" + ',
        'b"<title>Streamlit</title>" + ',
        "app/test_serving.py::test_foreign_names_and_origins_get_nothing_and_nothing_is_asked_outside",
    ),
    Guard(
        "page: a model is loaded only when it is asked",
        "app/views/ask.py",
        "    shared(f\"load {chosen['model']} {chosen['index']}\", \"Loading\", lambda _: load(chosen))\n",
        "",
        ASK + "a_model_is_loaded_before_the_first_question",
    ),
    Guard(
        "page: what is loaded is not said",
        "app/answering.py",
        "            self._stage(f\"Loading the model {chosen['model']}, once\")\n",
        "",
        ASK + "it_is_said_that_a_model_is_loaded_and_the_time_counts",
    ),
    Guard(
        "page: loading is not counted",
        "app/answering.py",
        "        turn.seconds = self.seconds\n",
        "        turn.seconds = self.seconds - turn.loading_seconds\n",
        ASK + "it_is_said_that_a_model_is_loaded_and_the_time_counts",
    ),
    Guard(
        "page: progress without the time left",
        "app/progress_panel.py",
        "    if job.left is not None:\n",
        "    if False:\n",
        INSIDE + "progress_has_its_unit_a_total_and_the_time_left",
    ),
    Guard(
        "page: a download without its bytes",
        "app/progress_panel.py",
        "if job.total > 5e6 else",
        "if False else",
        INSIDE + "progress_has_its_unit_a_total_and_the_time_left",
    ),
    Guard(
        "page: 100% between stages",
        "app/progress_panel.py",
        "share = job.done / job.total if job.total else 0.0",
        "share = job.done / job.total if job.total else 1.0",
        INSIDE + "progress_has_its_unit_a_total_and_the_time_left",
    ),
    Guard(
        "page: bits in huge type",
        "app/views/compare.py",
        'st.markdown(\n            f"Reference answer: **{found.reference.bits_per_byte:.2f}** bits/byte",',
        'st.metric(\n            "Reference answer", f"{found.reference.bits_per_byte:.2f} bits/byte",',
        ARMS + "four_arms_side_by_side_with_the_reference",
    ),
    Guard(
        "page: repeated itself beside empty",
        "app/views/compare.py",
        "answer.notices[:1] if not answer.answer else answer.notices",
        "answer.notices",
        ARMS + "an_empty_answer_says_once_why",
    ),
    Guard(
        "page: plots white in dark",
        "rag_vs_ft/evaluation/plots.py",
        'return svg.replace("currentColor", ink)',
        "return svg",
        "evaluation/test_report.py::test_pictures_have_the_colour_of_the_page",
    ),
    Guard(
        "page: a curve of one point",
        "app/views/train.py",
        'if len({point["step"] for point in points}) == 1:',
        "if False:",
        EXPERIMENTS + "a_run_with_curves_and_what_it_writes",
    ),
    Guard(
        "page: characters as their bytes without a word",
        "app/views/tokens.py",
        '    return "\\ufffd" in piece or piece not in text\n',
        "    return False\n",
        INSIDE + "tokens_side_by_side",
    ),
    Guard(
        "page: the deciding columns are off a phone's screen",
        "app/views/evaluate.py",
        "    return [[row[at] for at in order] for row in table]\n",
        "    return [list(row) for row in table]\n",
        EXPERIMENTS + "a_run_of_before_is_shown_whole",
    ),
    Guard(
        "page: a plot's labels are tiny on a phone",
        "app/frame.py",
        " [data-testid=stImage] img { min-width: 38rem; }",
        "",
        BROWSER + "answers_and_results_are_read_as_what_they_are",
    ),
    Guard(
        "page: a table's toolbar covers a heading on a phone",
        "app/frame.py",
        "  [data-testid=stElementToolbar] { display: none; } }",
        "}",
        BROWSER + "answers_and_results_are_read_as_what_they_are",
    ),
    Guard(
        "page: Rate's buttons say their keys twice",
        "app/views/rate.py",
        '("First is better", "first", "1")',
        '("1: first is better", "first", "1")',
        ARMS + "rating_is_blind_until_the_verdict_and_counted_after",
    ),
    Guard(
        "page: choices lose their first indent",
        "app/views/evaluate.py",
        "if at == question.answer_index else '-'}",
        "if at == question.answer_index else ' '}",
        EXPERIMENTS + "disagreements_are_read_one_after_the_other_with_the_reason",
    ),
    Guard(
        "page: the sidebar is printed",
        "app/frame.py",
        "  .stSidebar, .stAppHeader, .stBottom, [data-testid=stChatInput] { display: none !important; }\n",
        "",
        BROWSER + "what_was_there_is_there_again_after_a_reload_by_its_link_and_when_the_server_is_back",
    ),
    Guard(
        "page: nothing lists thumbs and notes",
        "app/main.py",
        '            st.Page("views/feedback.py", title="Feedback"),\n',
        "",
        ASK + "feedback_is_listed_and_exported_in_the_page",
    ),
    Guard(
        "page: results of a search without a snippet",
        "app/passages.py",
        "            st.html(snippet(hit.chunk.text, matched.get(hit.chunk.id, ())))\n",
        "",
        ASK + "a_search_needs_no_model_and_shows_what_matches",
    ),
    Guard(
        "page: filters are passed over",
        "app/answering.py",
        "filters=self._filters(), rerank=rerank)",
        "rerank=rerank)",
        ASK + "a_search_needs_no_model_and_shows_what_matches",
    ),
    Guard(
        "page: the reranker is passed over",
        "app/answering.py",
        "filters=self._filters(), rerank=rerank)",
        "filters=self._filters())",
        ASK + "passages_are_ordered_again_by_a_reranker",
    ),
    Guard(
        "page: no verb lists thumbs and notes",
        "rag_vs_ft/cli/feedback.py",
        "    for row in found:\n",
        "    for row in []:\n",
        "app/test_feedback.py::test_the_verbs_list_and_export_what_people_said",
    ),
    Guard(
        "page: no verb exports thumbs and notes",
        "rag_vs_ft/cli/feedback.py",
        "    files.write_text(out, feedback.as_json_lines(found))\n",
        '    files.write_text(out, "")\n',
        "app/test_feedback.py::test_the_verbs_list_and_export_what_people_said",
    ),
    Guard(
        "page: the address is passed over",
        "rag_vs_ft/serving.py",
        '"server.address": place.address',
        '"server.address": "127.0.0.1"',
        "app/test_serving.py::test_the_password_opens_pages_and_its_cookie_the_websocket",
    ),
    Guard(
        "page: the base path is passed over",
        "rag_vs_ft/serving.py",
        '"/".join(place.path_parts)',
        '""',
        "app/test_serving.py::test_the_password_opens_pages_and_its_cookie_the_websocket",
    ),
)


def run(copy: Path, tests: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--durations=0", "--timeout=300"]
    command += [f"tests/{test}" for test in tests.split()]
    return subprocess.run(
        command,
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy), "BROWSER_PATIENCE": "60"},
        capture_output=True,
        text=True,
        check=False,
    )


def try_guard(copy: Path, guard: Guard) -> str:
    """ "" when the tests fail without the guard, else what is wrong."""
    path = copy / guard.file
    whole = path.read_text(encoding="utf-8")
    if guard.text not in whole:
        return "its text is no longer there"
    path.write_text(whole.replace(guard.text, guard.without), encoding="utf-8")
    try:
        done = run(copy, guard.tests)
    finally:
        path.write_text(whole, encoding="utf-8")
    if done.returncode == 0:
        return "its test passes without it"
    # 1 is a failed test; anything else (nothing found, a syntax error) proves nothing.
    proves = done.returncode == 1 and not re.search(r"\bSyntaxError|errors? during collection", done.stdout)
    return "" if proves else done.stdout[-1500:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="Rows that hold this.")
    parser.add_argument("--part", default="1/1", help="One part of the rows, such as 2/6: every sixth, from the second on.")
    given = parser.parse_args()
    part, parts = map(int, given.part.split("/"))
    chosen = [guard for guard in GUARDS if given.only in guard.row][part - 1 :: parts]
    missed = 0
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch)
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
            elif (ROOT / name).exists():
                shutil.copy(ROOT / name, copy / name)
        whole = run(copy, " ".join(dict.fromkeys(test for guard in chosen for test in guard.tests.split())))
        if whole.returncode:
            raise SystemExit(f"the tests fail with every guard in its place:\n{whole.stdout[-3000:]}")
        for guard in chosen:
            problem = try_guard(copy, guard)
            missed += bool(problem)
            print(f"{'MISSED' if problem else 'ok':6} {guard.row}{': ' + problem if problem else ''}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} guards have a test that fails without them")
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
