"""The script for fish: a `complete` line for everything that may stand somewhere, under a condition."""

from collections.abc import Iterator
from typing import Final

from cli.completion.tree import ANYTHING, CLUSTER_FLAGS, FILES, NOTHING, Flag, Level, levels

_DRIVER: Final = """
# the command that was typed, and after a tab how many arguments follow it
function __varpulis_line
    set -l line ""
    set -l place 0
    set -l wants nothing
    set -l open yes
    for word in (commandline -opc)[2..-1]
        if test $open = yes; and contains -- "$word" (string split " " -- (__varpulis_below "$line"))
            set line (string trim -- "$line $word")
            continue
        end
        set open no
        if test "$wants" != nothing
            set wants nothing
        else if string match -q -- "-*" "$word"
            set wants (__varpulis_takes "$line $word")
            string match -q -- "*=*" "$word"; and set wants nothing
        else
            set place (math $place + 1)
        end
    end
    printf "%s\\t%s\\n" "$line" $place
end

function __varpulis_at
    set -l now (string split \\t -- (__varpulis_line))
    test "$now[1]" = "$argv[1]"; or return 1
    test (count $argv) -eq 1; and return 0
    test "$now[2]" -eq "$argv[2]"; and return 0
    test "$argv[3]" = more; and test "$now[2]" -gt "$argv[2]"
end

function __varpulis_words
    set -l tokens (commandline -opc)
    set -l there
    for number in (seq 2 (count $tokens))
        if contains -- "$tokens[$number]" @CLUSTER@; and test $number -lt (count $tokens)
            set there $there $tokens[$number] $tokens[(math $number + 1)]
        end
    end
    $tokens[1] completion words $argv[1] $there 2>/dev/null </dev/null
end
"""


def fish() -> str:
    """The script."""
    known = levels()
    lines = ["# varpulis: completion for fish", ""]
    lines += _switch("below", ((line, " ".join(level.below)) for line, level in known.items() if level.below))
    lines += _switch("takes", _values(known), otherwise=NOTHING)
    lines.append(_DRIVER.replace("@CLUSTER@", " ".join(CLUSTER_FLAGS)))
    lines.append("complete -c varpulis -f")
    for line, level in known.items():
        lines += _level(line, level)
    return "\n".join(lines) + "\n"


def _values(known: dict[str, Level]) -> Iterator[tuple[str, str]]:
    for line, level in known.items():
        for flag in level.flags:
            if flag.takes != NOTHING:
                yield from ((f"{line} {word}", flag.takes) for word in flag.words)


def _switch(name: str, rows: Iterator[tuple[str, str]], otherwise: str = "") -> list[str]:
    lines = [f"function __varpulis_{name}", "    switch $argv[1]"]
    for pattern, text in rows:
        lines += [f"        case {_quoted(pattern)}", f"            printf %s {_quoted(text)}"]
    if otherwise:
        lines += ["        case '*'", f"            printf %s {otherwise}"]
    return [*lines, "    end", "end", ""]


def _level(line: str, level: Level) -> Iterator[str]:
    first = _condition(line, "0")
    for word, help_ in level.below.items():
        yield f"complete -c varpulis -n {first} -a {_quoted(word)} -d {_quoted(help_)}"
    for flag in level.flags:
        yield f"complete -c varpulis -n {_condition(line)} {_flag(flag)}"
    for number, kind in enumerate(level.places):
        more = " more" if level.many and number == len(level.places) - 1 else ""
        offered = _offered(kind)
        if offered:
            yield f"complete -c varpulis -n {_condition(line, f'{number}{more}')} {offered}"


def _condition(line: str, place: str = "") -> str:
    return _quoted(f'__varpulis_at "{line}" {place}'.strip())


def _flag(flag: Flag) -> str:
    names = [f"-l {word[2:]}" if word.startswith("--") else f"-s {word[1:]}" for word in flag.words]
    taken = "" if flag.takes == NOTHING else f" -x {_offered(flag.takes)}".rstrip()
    if flag.takes == FILES:
        taken = " -r -F"
    return f"{' '.join(names)}{taken} -d {_quoted(flag.help)}"


def _offered(kind: str) -> str:
    if kind in (NOTHING, ANYTHING):
        return ""
    if kind == FILES:
        return "-F"
    if kind.startswith("one of "):
        return f"-a {_quoted(kind.removeprefix('one of '))}"
    return f"-a {_quoted(f'(__varpulis_words {kind})')}"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
