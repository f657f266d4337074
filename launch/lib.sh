# shellcheck shell=bash
# Sourced by the scripts of this folder: DRY_RUN, and deletion after a failure.
# shellcheck disable=SC2034 # used by those who source this
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec 3>&1 # where DRY_RUN prints, also from within $(...)

quoted() { # prints its arguments as one shell command line
  local word line='' apostrophe="'\\''"
  for word; do
    case $word in
      '' | *[!A-Za-z0-9_./:=,@%+-]*) line+=" '${word//\'/$apostrophe}'" ;;
      *) line+=" $word" ;;
    esac
  done
  printf '%s' "${line# }"
}

run() { # runs a command, or with DRY_RUN=1 prints it
  if [ -z "${DRY_RUN:-}" ]; then "$@"; else printf '%s\n' "$(quoted "$@")" >&3; fi
}

absent() { # exits if a describe command finds NAME, which belongs to someone
  if "$@" >/dev/null 2>&1 && [ -z "${DRY_RUN:-}" ]; then
    echo "error: NAME=$NAME exists already; delete it or choose another name" >&2 && exit 2
  fi
}
[[ " ${ARGS:-} " != *" --restart "* ]] || # each new try would begin at step 0
  { echo "error: --restart in ARGS; run it once by hand" >&2 && exit 2; }
again() { # whether a run with this exit code resumes from its last checkpoint
  case $1 in '' | 75 | 134 | 139 | 143) true ;; *) false ;; esac
} # '': the hosts are gone; 75: "try again" (sysexits); others: a crash or SIGTERM

finish() { # after a failure, calls undo, by which a script deletes what it created
  local code=$? && trap - EXIT
  if [ "$code" != 0 ] && declare -F undo >/dev/null; then set +e && undo; fi
  exit "$code"
}
trap finish EXIT
trap 'exit 130' HUP INT
trap 'exit 143' TERM
