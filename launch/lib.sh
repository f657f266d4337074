# shellcheck shell=bash
# Sourced by the scripts of this folder: DRY_RUN, and deletion after a failure.
# shellcheck disable=SC2034 # used by those who source this
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec 3>&1 # where DRY_RUN prints, also from within $(...)

quoted() { # its arguments as one line that a shell reads back
  local word line='' apostrophe="'\\''"
  for word; do
    case $word in
      '' | *[!A-Za-z0-9_./:=,@%+-]*) line+=" '${word//\'/$apostrophe}'" ;;
      *) line+=" $word" ;;
    esac
  done
  printf '%s' "${line# }"
}

run() { # a command, or with DRY_RUN=1 its line
  if [ -z "${DRY_RUN:-}" ]; then "$@"; else printf '%s\n' "$(quoted "$@")" >&3; fi
}

absent() { # stops where a describe finds something: its name's owner keeps it
  if "$@" >/dev/null 2>&1 && [ -z "${DRY_RUN:-}" ]; then
    echo "error: NAME=$NAME is there already; delete it or choose another" >&2 && exit 2
  fi
}
[[ " ${ARGS:-} " != *" --restart "* ]] || # each new try would begin at step 0
  { echo "error: --restart in ARGS; run it once by hand" >&2 && exit 2; }
again() { # whether a run that ended so goes on from its last checkpoint
  case $1 in '' | 75 | 134 | 139 | 143) true ;; *) false ;; esac
} # '': its hosts are gone; 75: "try again" (sysexits); others: a crash or SIGTERM

finish() { # a script that makes something defines undo, which deletes it
  local code=$? && trap - EXIT
  if [ "$code" != 0 ] && declare -F undo >/dev/null; then set +e && undo; fi
  exit "$code"
}
trap finish EXIT
trap 'exit 130' HUP INT
trap 'exit 143' TERM
