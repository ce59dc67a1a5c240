"""Completion scripts for three shells. They hold every word, so that no Python starts while the user types."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


class Word(NamedTuple):
    """A command, or a command of a group, as a script needs it."""

    path: tuple[str, ...]
    """Such as ("train",) or ("asr", "train")."""
    summary: str
    options: Mapping[str, tuple[str, ...]]
    """Flags with the words that each takes."""
    values: tuple[str, ...] = ()
    """Words that may stand without a flag."""


def bash(words: Sequence[Word]) -> str:
    """The script for bash; without bash-completion it is sourced as it is."""
    lines = [
        "# Completion of ev for bash, written by `ev completion bash`.",
        "_ev() {",
        '    local cur=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} words=""',
        "    local command=${COMP_WORDS[1]}",
        "    COMPREPLY=()",
        "    if ((COMP_CWORD == 1)); then",
        f"        words={shlex.quote(' '.join(_below(words, ())))}",
        "    else",
        "        case $command in",
    ]
    for group in _groups(words):
        lines += [
            f"        {group})",
            "            if ((COMP_CWORD == 2)); then",
            f"                words={shlex.quote(' '.join(_below(words, (group,))))}",
            "            else",
            '                command="$command ${COMP_WORDS[2]}"',
            "            fi ;;",
        ]
    lines += [
        "        esac",
        "    fi",
        "    if [[ -z $words ]]; then",
        '        case "$command:$previous" in',
    ]
    for word in words:
        for flag, choices in word.options.items():
            if choices:
                pattern = shlex.quote(f"{' '.join(word.path)}:{flag}")
                lines.append(f"        {pattern}) words={shlex.quote(' '.join(choices))} ;;")
    lines += [
        "        esac",
        "    fi",
        "    if [[ -z $words && $cur == -* ]]; then",
        "        case $command in",
    ]
    for word in words:
        if word.options:
            lines.append(
                f"        {shlex.quote(' '.join(word.path))}) words={shlex.quote(' '.join(word.options))} ;;"
            )
    lines += ["        esac", "    elif [[ -z $words ]]; then", "        case $command in"]
    for word in words:
        if word.values:
            lines.append(
                f"        {shlex.quote(' '.join(word.path))}) words={shlex.quote(' '.join(word.values))} ;;"
            )
    lines += [
        "        esac",
        "    fi",
        '    COMPREPLY=($(compgen -W "$words" -- "$cur"))',
        "}",
        "complete -o default -F _ev ev",  # Where no word is known, files are completed.
        "",
    ]
    return "\n".join(lines)


def zsh(words: Sequence[Word]) -> str:
    """The script for zsh: a function file for fpath, or to be sourced after compinit."""
    lines = ["#compdef ev", "# Completion of ev for zsh, written by `ev completion zsh`.", "_ev() {"]
    lines += [
        "    local command=$words[2] previous=$words[CURRENT-1]",
        "    local -a found",
        "    if (( CURRENT == 2 )); then",
    ]
    lines += [
        f"        found=({_described(words, ())})",
        "        _describe command found",
        "        return",
        "    fi",
    ]
    lines.append("    case $command in")
    for group in _groups(words):
        lines += [
            f"    ({group})",
            "        if (( CURRENT == 3 )); then",
            f"            found=({_described(words, (group,))})",
            "            _describe command found",
            "            return",
            "        fi",
            '        command="$command $words[3]" ;;',
        ]
    lines += ["    esac", '    case "$command:$previous" in']
    for word in words:
        for flag, choices in word.options.items():
            if choices:
                pattern = shlex.quote(f"{' '.join(word.path)}:{flag}")
                lines.append(f"    ({pattern}) compadd -- {shlex.join(choices)}; return ;;")
    lines += ["    esac", "    if [[ $PREFIX == -* ]]; then", "        case $command in"]
    for word in words:
        if word.options:
            lines.append(
                f"        ({shlex.quote(' '.join(word.path))}) compadd -- {shlex.join(word.options)} ;;"
            )
    lines += [
        "        esac",
        "        return",
        "    fi",
        "    case $command in",
    ]
    for word in words:
        if word.values:
            lines.append(
                f"    ({shlex.quote(' '.join(word.path))}) compadd -- {shlex.join(word.values)}; return ;;"
            )
    lines += [
        "    esac",
        "    _files",
        "}",
        'if [[ $funcstack[1] == _ev ]]; then _ev "$@"; else compdef _ev ev; fi',
        "",
    ]
    return "\n".join(lines)


def fish(words: Sequence[Word]) -> str:
    """The script for fish."""
    lines = [
        "# Completion of ev for fish, written by `ev completion fish`.",
        "function __ev_at --description 'whether the command line begins with these words'",
        "    set -l typed (commandline -opc)",
        "    test (count $typed) -gt (count $argv); or return 1",
        "    for i in (seq (count $argv))",
        '        test "$typed[$(math $i + 1)]" = "$argv[$i]"; or return 1',
        "    end",
        "end",
        "function __ev_next --description 'whether the word after these is being typed'",
        "    __ev_at $argv; and test (count (commandline -opc)) -eq (math (count $argv) + 1)",
        "end",
    ]
    for word in words:
        before = " ".join(("__ev_next", *word.path[:-1]))
        lines.append(f"complete -c ev -f -n '{before}' -a {word.path[-1]} -d {_fish(word.summary)}")
        if word.values:
            at = f"__ev_at {' '.join(word.path)}"
            lines.append(f"complete -c ev -f -n '{at}' -a {_fish(' '.join(word.values))}")
    for word in words:
        for flag, choices in word.options.items():
            line = f"complete -c ev -n '__ev_at {' '.join(word.path)}' -l {flag.removeprefix('--')}"
            lines.append(line + (f" -x -a {_fish(' '.join(choices))}" if choices else ""))
    return "\n".join([*lines, ""])


def _groups(words: Sequence[Word]) -> list[str]:
    return list(dict.fromkeys(word.path[0] for word in words if len(word.path) > 1))


def _below(words: Sequence[Word], path: tuple[str, ...]) -> list[str]:
    return [word.path[-1] for word in words if word.path[:-1] == path]


def _described(words: Sequence[Word], path: tuple[str, ...]) -> str:
    """Commands with what they do, as zsh's _describe takes them."""
    found = [word for word in words if word.path[:-1] == path]
    escaped = [(word.path[-1], word.summary.replace(":", "\\:")) for word in found]
    return " ".join(shlex.quote(f"{name}:{summary}") for name, summary in escaped)


def _fish(text: str) -> str:
    """Text in fish's single quotes, where only backslash and quote are special."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


SCRIPTS: Mapping[str, Callable[[Sequence[Word]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
