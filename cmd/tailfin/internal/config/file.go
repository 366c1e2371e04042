package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	kongyaml "github.com/alecthomas/kong-yaml"
	"gopkg.in/yaml.v3"
)

// maxFile bounds a configuration file, in bytes.
const maxFile = 1 << 20

// command is how the YAML resolver names the command whose flags a file has.
const command = "serve"

// A file is a configuration file that was read, with all its keys known and each
// value usable by itself.
type file struct {
	path     string
	lines    map[string]int // of each key
	resolver kong.Resolver
}

// readFile reads and checks a file. The error has all that is wrong with it.
func readFile(path string, named Origin, flags map[string]*kong.Flag) (*file, error) {
	bad := func(err error, remedy string) error {
		return &Error{Origin: named, Option: "config", Value: path, Err: err, Remedy: remedy}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, bad(err, "name a readable YAML file; `tailfin config example` prints one")
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, bad(err, "name a readable YAML file")
	}
	if len(text) > maxFile {
		return nil, bad(fmt.Errorf("longer than %d bytes", maxFile), "is this the right file?")
	}
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(&doc); err != nil && !errors.Is(err, io.EOF) { // it is empty
		return nil, bad(err, "`tailfin config example` prints a file of the right form")
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil && len(second.Content) > 0 {
		return nil, &Error{Origin: Origin{File: path, Line: second.Content[0].Line}, Err: errors.New("a second document begins"), Remedy: "leave the --- before it out: all keys belong into one"}
	} else if err != nil && !errors.Is(err, io.EOF) {
		return nil, bad(err, "`tailfin config example` prints a file of the right form")
	}
	c := &file{path: path, lines: make(map[string]int)}
	if len(doc.Content) > 0 { // else it is empty
		if err := c.check(doc.Content[0], flags); err != nil {
			return nil, err
		}
	}
	return c, c.load(&doc)
}

// load makes the resolver, for which the keys are below the command.
func (c *file) load(doc *yaml.Node) error {
	below := map[string]*yaml.Node{}
	if len(doc.Content) > 0 {
		below[command] = doc.Content[0]
	}
	text, err := yaml.Marshal(below)
	if err != nil {
		return err
	}
	c.resolver, err = kongyaml.Loader(bytes.NewReader(text))
	return err
}

// check goes through the keys.
func (c *file) check(root *yaml.Node, flags map[string]*kong.Flag) error {
	if root.Kind != yaml.MappingNode {
		return &Error{Origin: Origin{File: c.path, Line: root.Line}, Option: "", Value: "",
			Err: errors.New("this is no list of keys and values"), Remedy: "`tailfin config example` prints a file of the right form"}
	}
	var errs []error
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if err := c.checkKey(key, value, flags); err != nil {
			errs = append(errs, err)
			continue
		}
		c.lines[key.Value] = key.Line
	}
	return join(errs)
}

func (c *file) checkKey(key, value *yaml.Node, flags map[string]*kong.Flag) error {
	bad := func(err error, remedy string) error {
		return &Error{Origin: Origin{File: c.path, Line: key.Line}, Option: key.Value, Value: text(value), Err: err, Remedy: remedy}
	}
	flag := flags[key.Value]
	switch {
	case flag == nil:
		remedy := "`tailfin serve --help` lists the keys, as flags"
		if near := nearest(key.Value, flags); near != "" {
			remedy = fmt.Sprintf("is it %s? %s", near, remedy)
		}
		return bad(errors.New("there is no such key"), remedy)
	case c.lines[key.Value] != 0:
		return bad(fmt.Errorf("the key is there twice, in line %d too", c.lines[key.Value]), "leave one of the two out")
	case flag.Name == "config":
		return bad(errors.New("a file cannot name another"), "leave it out")
	}
	values := []*yaml.Node{value}
	if value.Kind == yaml.SequenceNode && flag.IsSlice() {
		values = value.Content
	}
	for _, v := range values {
		if v.Kind != yaml.ScalarNode {
			return bad(errors.New("a single value belongs here"), placeholder(flag))
		}
		if v.Tag == "!!null" {
			return bad(errors.New("the value is missing"), placeholder(flag))
		}
		if err := try(flag.Name, v.Value); err != nil {
			return bad(err, placeholder(flag))
		}
	}
	return nil
}

// text writes a value on one line.
func text(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode {
		return n.Value
	}
	var parts []string
	for _, c := range n.Content {
		parts = append(parts, text(c))
	}
	return strings.Join(parts, ",")
}

// placeholder says what to give for an option.
func placeholder(flag *kong.Flag) string {
	return fmt.Sprintf("give %s. %s", flag.FormatPlaceHolder(), flag.Help)
}

// nearest finds the option that name may have been meant for.
func nearest(name string, flags map[string]*kong.Flag) string {
	best, bestDistance := "", 3 // two slips at most
	for candidate := range flags {
		d := distance(name, candidate)
		if strings.ReplaceAll(name, "_", "-") == candidate {
			d = 0
		}
		if d < bestDistance || d == bestDistance && candidate < best {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// distance is how many letters must be put in, left out or changed to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
