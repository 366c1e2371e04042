package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
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
		f, err := readFile(path, l.origins["config"])
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
			return f.Resolve(c, parent, flag)
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
	f, err := readFile(path, Origin{Flag: true})
	if err != nil {
		return nil, 0, err
	}
	return f.parse()
}

// parse makes the configuration of a file, and returns how many keys it has.
func (c *file) parse() (l *Loaded, keys int, err error) {
	r, err := newFileReader()
	if err != nil {
		return nil, 0, err
	}
	return r.read(c)
}

// A fileReader makes the configurations of files, one after the other.
type fileReader struct {
	target app
	parser *kong.Kong
	file   *file // at work
}

func newFileReader() (*fileReader, error) {
	r := &fileReader{}
	var err error
	r.parser, _, err = newParser(&r.target, kong.Resolvers(kong.ResolverFunc(func(c *kong.Context, parent *kong.Path, flag *kong.Flag) (any, error) {
		return r.file.Resolve(c, parent, flag)
	})))
	return r, err
}

// read is parse of a file.
func (r *fileReader) read(c *file) (l *Loaded, keys int, err error) {
	l = &Loaded{origins: make(map[string]Origin)}
	for key, line := range c.lines {
		l.origins[key] = Origin{File: c.path, Line: line}
	}
	r.file = c
	if _, err := r.parser.Parse([]string{command}); err != nil {
		return nil, 0, err
	}
	l.Serve = r.target.Serve
	return l, len(c.lines), join(l.problems())
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

// A trial tells which values options take.
type trial struct {
	flags map[string]*kong.Flag
}

func newTrial() (*trial, error) {
	_, flags, err := newParser(&app{})
	return &trial{flags}, err
}

// value tells why an option does not take a value.
func (t *trial) value(flag *kong.Flag, value string) error {
	target := reflect.New(flag.Target.Type()).Elem()
	err := flag.Parse(kong.ScanAsType(kong.FlagValueToken, value), target)
	switch {
	case err != nil:
		// The flag's name is said by the caller, as the key that it is there.
		return errors.New(strings.TrimPrefix(err.Error(), flag.ShortSummary()+": "))
	case flag.Enum != "" && !flag.EnumMap()[value]:
		return fmt.Errorf("it is none of %s", strings.Join(flag.EnumSlice(), ", "))
	}
	return nil
}

// Wrong makes the Error of an option that proved unusable only when it was used.
func (l *Loaded) Wrong(option, value string, err error, remedy string) error {
	return &Error{Origin: l.origins[option], Option: option, Value: value, Err: err, Remedy: remedy}
}
