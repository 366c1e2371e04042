package config

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/tailfin-quic/tailfin/udp"
)

// envPrefix begins the names of environment variables.
const envPrefix = "TAILFIN_"

// Vars are what the help texts of Serve refer to.
func Vars() kong.Vars {
	return kong.Vars{"moderation": udp.DefaultModeration.String(), "maxShards": fmt.Sprint(MaxShards)}
}

// NameEnv gives each of the flags its environment variable. Kong calls it after it
// has built its model.
func NameEnv(flags []*kong.Flag) {
	for _, f := range flags {
		if f.Name == "help" {
			continue
		}
		f.Envs = []string{EnvName(f.Name)}
		f.Tag.Envs = f.Envs
	}
}

// EnvName is the environment variable of an option.
func EnvName(option string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(option, "-", "_"))
}

// A Loaded is a configuration with what is known of it.
type Loaded struct {
	Serve
	origins map[string]Origin
}

// Parse makes the configuration of the arguments of `tailfin serve`, the
// environment, and the file that either names. Errors are of type Error, or
// several of them joined.
func Parse(args []string) (*Loaded, error) {
	var target app
	l := &Loaded{origins: make(map[string]Origin)}
	parser, flags, err := newParser(&target)
	if err != nil {
		return nil, err
	}
	given, err := kong.Trace(parser, append([]string{command}, args...))
	if err != nil {
		return nil, err
	}
	path, named := os.LookupEnv(EnvName("config"))
	for _, p := range given.Path {
		if p.Flag == nil {
			continue
		}
		l.origins[p.Flag.Name] = Origin{Flag: true}
		if p.Flag.Name == "config" {
			path, named = fmt.Sprint(given.FlagValue(p.Flag)), true
		}
	}
	for name := range flags {
		if _, ok := os.LookupEnv(EnvName(name)); ok && !l.origins[name].Flag {
			l.origins[name] = Origin{Env: EnvName(name)}
		}
	}
	var options []kong.Option
	if named && path != "" {
		f, err := readFile(path, l.origins["config"], flags)
		if err != nil {
			return nil, err
		}
		for key, line := range f.lines {
			if _, set := l.origins[key]; !set {
				l.origins[key] = Origin{File: path, Line: line}
			}
		}
		options = append(options, kong.Resolvers(kong.ResolverFunc(func(c *kong.Context, parent *kong.Path, flag *kong.Flag) (any, error) {
			if l.origins[flag.Name].File == "" {
				return nil, nil // a resolver would outdo the environment
			}
			return f.resolver.Resolve(c, parent, flag)
		})))
	}
	if parser, _, err = newParser(&target, options...); err != nil {
		return nil, err
	}
	if _, err := parser.Parse(append([]string{command}, args...)); err != nil {
		return nil, err
	}
	l.Serve = target.Serve
	return l, join(l.problems())
}

// ParseFile makes the configuration of a file, and returns how many keys it has.
func ParseFile(path string) (l *Loaded, keys int, err error) {
	var target app
	l = &Loaded{origins: make(map[string]Origin)}
	_, flags, err := newParser(&target)
	if err != nil {
		return nil, 0, err
	}
	f, err := readFile(path, Origin{Flag: true}, flags)
	if err != nil {
		return nil, 0, err
	}
	for key, line := range f.lines {
		l.origins[key] = Origin{File: path, Line: line}
	}
	parser, _, err := newParser(&target, kong.Resolvers(f.resolver))
	if err != nil {
		return nil, 0, err
	}
	if _, err := parser.Parse([]string{command}); err != nil {
		return nil, 0, err
	}
	l.Serve = target.Serve
	return l, len(f.lines), join(l.problems())
}

// An app is the command line as far as the configuration goes.
type app struct {
	Serve Serve `cmd:""`
}

// newParser makes a parser for target, and its flags by name.
func newParser(target *app, options ...kong.Option) (*kong.Kong, map[string]*kong.Flag, error) {
	options = append(options, kong.Name("tailfin"), Vars(), kong.Exit(func(int) {}), kong.PostBuild(func(k *kong.Kong) error {
		NameEnv(k.Model.Children[0].Flags)
		return nil
	}))
	parser, err := kong.New(target, options...)
	if err != nil {
		return nil, nil, err
	}
	flags := make(map[string]*kong.Flag)
	for _, f := range parser.Model.Children[0].Flags {
		if f.Name != "help" {
			flags[f.Name] = f
		}
	}
	return parser, flags, nil
}

// try tells whether one option takes a value.
func try(option, value string) error {
	var scratch app
	parser, _, err := newParser(&scratch)
	if err != nil {
		return err
	}
	_, err = parser.Parse([]string{command, "--" + option + "=" + value})
	if err == nil {
		return nil
	}
	// The flag's name is said by the caller, as the key that it is there.
	text := strings.TrimPrefix(err.Error(), "--"+option+": ")
	return errors.New(strings.TrimPrefix(text, "--"+option+" "))
}

// Wrong makes the Error of an option that proved unusable only when it was used.
func (l *Loaded) Wrong(option, value string, err error, remedy string) error {
	return &Error{Origin: l.origins[option], Option: option, Value: value, Err: err, Remedy: remedy}
}
