package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"
)

// The shells ask the binary itself: urfave/cli answers
// --generate-bash-completion with the commands or flags that may follow.
const bashCompletion = `# bash completion for mirrormq; load it with: source <(mirrormq completion bash)
_mirrormq() {
  local current options words
  current="${COMP_WORDS[COMP_CWORD]}"
  words=("${COMP_WORDS[@]:0:COMP_CWORD}")
  if [[ "$current" == -* ]]; then
    options=$("${words[@]}" "$current" --generate-bash-completion 2>/dev/null)
  else
    options=$("${words[@]}" --generate-bash-completion 2>/dev/null)
  fi
  COMPREPLY=($(compgen -W "$options" -- "$current"))
}
complete -o bashdefault -o default -F _mirrormq mirrormq
`

const zshCompletion = `#compdef mirrormq
# zsh completion for mirrormq; load it with: source <(mirrormq completion zsh)
_mirrormq() {
  local current
  local -a options
  current="${words[CURRENT]}"
  if [[ "$current" == -* ]]; then
    options=("${(@f)$(${words[1,CURRENT-1]} "$current" --generate-bash-completion 2>/dev/null)}")
  else
    options=("${(@f)$(_CLI_ZSH_AUTOCOMPLETE_HACK=1 ${words[1,CURRENT-1]} --generate-bash-completion 2>/dev/null)}")
  fi
  if [[ -n "${options[1]}" ]]; then
    _describe 'values' options
  else
    _files
  fi
}
compdef _mirrormq mirrormq
`

func completionCommand() *cli.Command {
	script := func(shell, text string) *cli.Command {
		return &cli.Command{
			Name: shell, Usage: "print the script for " + shell,
			Action: func(c *cli.Context) error {
				_, err := io.WriteString(c.App.Writer, text)
				return err
			},
		}
	}
	fish := script("fish", "")
	fish.Action = func(c *cli.Context) error {
		text, err := c.App.ToFishCompletion()
		if err != nil {
			return err
		}
		_, err = fmt.Fprint(c.App.Writer, text)
		return err
	}
	return &cli.Command{
		Name:  "completion",
		Usage: "print a shell's completion script",
		Description: `Examples:
   source <(mirrormq completion bash)
   mirrormq completion zsh > "${fpath[1]}/_mirrormq"
   mirrormq completion fish > ~/.config/fish/completions/mirrormq.fish`,
		Subcommands: []*cli.Command{script("bash", bashCompletion), script("zsh", zshCompletion), fish},
	}
}
