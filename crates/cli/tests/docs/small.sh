#!/bin/sh
# Stands for `selfpatch`, and with `cargo.sh` for `cargo xtask`, where the commands of the docs are run: the program that
# the test was built with, and settings that keep it small where the command does not say otherwise.

# Whether one of the words after the first is this flag.
has() {
    flag=$1
    shift
    for word; do
        case $word in "$flag" | "$flag"=*) return 0 ;; esac
    done
    return 1
}

# What follows this flag.
value() {
    flag=$1
    shift
    while [ $# -gt 0 ]; do
        case $1 in
        "$flag") printf %s "$2" && return ;;
        "$flag"=*) printf %s "${1#*=}" && return ;;
        esac
        shift
    done
}

case $1 in
train)
    # A run that is named alone goes on with its own settings, and every run for two more steps each time.
    own=$(value --resume "$@")
    [ -f "$own/config.toml" ] || own=runs/$(value --name "$@")
    if [ -d "$own/tb" ] && ! has --max-steps "$@" && ! has --max_steps "$@"; then
        set -- "$@" --max-steps $((2 + 2 * $(ls "$own/tb" | wc -l)))
    fi
    if has --config "$@"; then
        :
    elif [ -f "$own/config.toml" ] && ! has --data "$@" && ! has --data-path "$@" && ! has --data_path "$@"; then
        :
    elif has --arch "$@"; then
        # It has a width of its own.
        set -- "$@" --config "$SMALL/small-heads.toml"
    else
        set -- "$@" --config "$SMALL/small.toml"
    fi
    ;;
eval-linear)
    has --epochs "$@" || set -- "$@" --epochs 2
    ;;
eval-davis)
    has --n-last-frames "$@" || set -- "$@" --n-last-frames 1
    has --size-mask-neighborhood "$@" || set -- "$@" --size-mask-neighborhood 2
    if has --data-path "$@"; then
        has --scale-size "$@" || set -- "$@" --scale-size 64
    elif ! has --scale-size "$@" && ! has --grid "$@"; then
        set -- "$@" --grid 8
    fi
    ;;
esac
exec "$SELFPATCH_PROGRAM" "$@"
