"""The scripts for bash and zsh: the same tables as `case` statements, and a driver for each.

A driver finds the command (its words come first, before any option), then walks over what was typed, so that
it knows whether an option waits for its value and which argument comes next. Words of the cluster are never
expanded by the shell. bash is taken from 3.2 on, which macOS has.
"""

from collections.abc import Callable, Iterable
from typing import Final

from cli.completion.tree import ANYTHING, CLUSTER_FLAGS, NOTHING, Level, levels

_BASH: Final = """
_varpulis_offer() {
    if [[ $1 == "$cur"* ]]; then COMPREPLY+=("${1#"$head"}"); fi
}

_varpulis_fill() {
    local word
    case "$1" in
    nothing | anything | "") ;;
    files)
        compopt -o filenames 2>/dev/null
        while IFS= read -r word; do _varpulis_offer "$word"; done < <(compgen -f -- "$cur")
        ;;
    "one of "*) for word in ${1#one of }; do _varpulis_offer "$word"; done ;;
    *)
        while IFS= read -r word; do _varpulis_offer "$word"; done < <(
            "${COMP_WORDS[0]}" completion words "$1" ${there[@]+"${there[@]}"} 2>/dev/null </dev/null
        )
        ;;
    esac
}

_varpulis() {
    local cur="" head="" line="" word="" wants="" flag="" i=1 place=0
    local part="${COMP_WORDS[COMP_CWORD]}" typed="${COMP_LINE:0:COMP_POINT}"
    local -a words=() there=()
    COMPREPLY=()
    # bash divides at = and : as well, as in URLs: so the words are taken from the line itself
    read -ra words <<<"$typed"
    if [[ $typed == *[![:space:]] ]]; then
        cur="${words[${#words[@]} - 1]}"
        unset "words[${#words[@]} - 1]"
    fi
    while ((i < ${#words[@]})); do
        word="${words[i]}"
        case " $(_varpulis_below "$line") " in
        *" $word "*) line="${line:+$line }$word" ;;
        *) break ;;
        esac
        ((i += 1))
    done
    while ((i < ${#words[@]})); do
        word="${words[i]}"
        if [[ -n $wants ]]; then
            case " @CLUSTER@ " in *" $flag "*) there+=("$flag" "$word") ;; esac
            wants=""
        elif [[ $word == -?* ]]; then
            flag="${word%%=*}"
            wants="$(_varpulis_takes "$line $flag")"
            if [[ $word == *=* ]]; then
                case " @CLUSTER@ " in *" $flag "*) there+=("$word") ;; esac
                wants=""
            elif [[ $wants == nothing ]]; then
                wants=""
            fi
        else
            ((place += 1))
        fi
        ((i += 1))
    done
    if [[ -z $wants && $cur == --*=* ]]; then
        wants="$(_varpulis_takes "$line ${cur%%=*}")"
        cur="${cur#*=}"
    fi
    if [[ $part == [=:] ]]; then part=""; fi
    head="${cur%"$part"}"
    if [[ -n $wants ]]; then
        _varpulis_fill "$wants"
    elif [[ $cur == -* ]]; then
        for word in $(_varpulis_flags "$line"); do _varpulis_offer "$word"; done
    else
        if ((place == 0)); then
            for word in $(_varpulis_below "$line"); do _varpulis_offer "$word"; done
        fi
        _varpulis_fill "$(_varpulis_place "$line" "$place")"
    fi
    return 0
}

complete -F _varpulis varpulis
"""

_ZSH: Final = """
_varpulis_fill() {
    case "$1" in
    nothing | anything | "") ;;
    files) _files ;;
    "one of "*) compadd -- ${=1#one of } ;;
    *) compadd -- ${(f)"$("${words[1]}" completion words "$1" "${there[@]}" 2>/dev/null </dev/null)"} ;;
    esac
}

_varpulis() {
    local cur="${words[CURRENT]}" line="" word="" wants="" flag=""
    local -a there told
    integer i=2 place=0
    while ((i < CURRENT)); do
        word="${words[i]}"
        case " $(_varpulis_below "$line") " in
        *" $word "*) line="${line:+$line }$word" ;;
        *) break ;;
        esac
        ((i++))
    done
    while ((i < CURRENT)); do
        word="${words[i]}"
        if [[ -n $wants ]]; then
            case " @CLUSTER@ " in *" $flag "*) there+=("$flag" "$word") ;; esac
            wants=""
        elif [[ $word == -?* ]]; then
            flag="${word%%=*}"
            wants="$(_varpulis_takes "$line $flag")"
            case " @CLUSTER@ " in *" $flag "*) [[ $word == *=* ]] && there+=("$word") ;; esac
            [[ $wants == nothing || $word == *=* ]] && wants=""
        else
            ((place++))
        fi
        ((i++))
    done
    if [[ -n $wants ]]; then
        _varpulis_fill "$wants"
    elif [[ $cur == --*=* ]] && compset -P '*='; then
        _varpulis_fill "$(_varpulis_takes "$line ${cur%%=*}")"
    elif [[ $cur == -* ]]; then
        told=(${(f)"$(_varpulis_flags_told "$line")"})
        _describe -o option told
    else
        told=(${(f)"$(_varpulis_below_told "$line")"})
        ((place == 0 && $#told)) && _describe command told
        _varpulis_fill "$(_varpulis_place "$line" "$place")"
    fi
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _varpulis "$@"
else
    compdef _varpulis varpulis
fi
"""


def bash() -> str:
    """The script for bash."""
    return "\n".join(("# varpulis: completion for bash", *_tables(levels()), _filled(_BASH)))


def zsh() -> str:
    """The script for zsh, to be sourced or put where `fpath` leads."""
    known = levels()
    told = [
        _function("below_told", known, lambda level: level.below.items()),
        _function("flags_told", known, _told_flags),
    ]
    return "\n".join(
        ("#compdef varpulis", "# varpulis: completion for zsh", *_tables(known), *told, _filled(_ZSH))
    )


def _told_flags(level: Level) -> Iterable[tuple[str, str]]:
    return [(word, flag.help) for flag in level.flags for word in flag.words]


def _filled(driver: str) -> str:
    return driver.replace("@CLUSTER@", " ".join(CLUSTER_FLAGS)).lstrip("\n")


def _tables(known: dict[str, Level]) -> list[str]:
    below = [_row(line, level.below) for line, level in known.items() if level.below]
    flags = [
        _row(line, [word for flag in level.flags for word in flag.words])
        for line, level in known.items()
        if level.flags
    ]
    takes: dict[str, list[str]] = {}
    for line, level in known.items():
        for flag in level.flags:
            if flag.takes != NOTHING:
                takes.setdefault(flag.takes, []).extend(_quoted(f"{line} {word}") for word in flag.words)
    values = [_case(patterns, kind) for kind, patterns in takes.items()]
    return [
        _whole("below", below, '"$1"'),
        _whole("flags", flags, '"$1"'),
        _whole("takes", [*values, f"    *) printf {NOTHING} ;;"], '"$1"'),
        _whole("place", [row for line, level in known.items() for row in _places(line, level)], '"$1 $2"'),
    ]


def _places(line: str, level: Level) -> Iterable[str]:
    """A row for each argument by its number, and one for all that follow the last, if there may be more."""
    for number, kind in enumerate(level.places):
        last = level.many and number == len(level.places) - 1
        if kind != ANYTHING:
            yield _case([_quoted(f"{line} ") + "*" if last else _quoted(f"{line} {number}")], kind)
        elif last:
            break


def _function(name: str, known: dict[str, Level], pairs: Callable[[Level], Iterable[tuple[str, str]]]) -> str:
    rows = []
    for line, level in known.items():
        lines = [f"{word}:{help_}" for word, help_ in pairs(level)]
        if lines:
            rows.append(f"    {_quoted(line)}) printf '%s\\n' {' '.join(map(_quoted, lines))} ;;")
    return _whole(name, rows, '"$1"')


def _whole(name: str, rows: list[str], subject: str) -> str:
    return "\n".join([f"_varpulis_{name}() {{", f"    case {subject} in", *rows, "    esac", "}", ""])


def _row(line: str, words: Iterable[str]) -> str:
    return _case([_quoted(line)], " ".join(words))


def _case(patterns: Iterable[str], text: str) -> str:
    return f"    {' | '.join(patterns)}) printf %s {_quoted(text)} ;;"


def _quoted(text: str) -> str:
    """As one word of either shell, whatever is in it."""
    return "'" + text.replace("'", "'\\''") + "'"
