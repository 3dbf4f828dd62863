"""Renders one chat template, in a process of its own with limits; run by path, so it imports nothing of this package.

Standard input is a JSON object of `template`, `message` and `variables`; standard output one of `text` or `error`.
"""

import json
import sys

SECONDS, MEMORY, CHARACTERS = 5, 2 << 30, 1_000_000


def main() -> None:
    """Render, and say what came of it."""
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        import resource
    except ImportError:  # Windows: the parent's time limit alone
        pass
    else:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    asked = json.load(sys.stdin)
    try:
        (text,), _ = render_jinja_template(
            conversations=[[{"role": "user", "content": asked["message"]}]],
            chat_template=asked["template"],
            add_generation_prompt=True,
            **asked["variables"],
        )
    except MemoryError:
        found = {"error": "it needs too much memory"}
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:300]}"}
    else:
        found = {"text": text} if len(text) <= CHARACTERS else {"error": f"it makes a prompt of {len(text):,} characters"}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
