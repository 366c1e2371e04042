package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/alecthomas/kong"
	"gopkg.in/yaml.v3"
)

// Bounds of a configuration file and of what is said of it.
const (
	maxFile   = 1 << 20 // bytes
	maxErrors = 20      // that are listed
	maxShown  = 200     // bytes of a key or a value
)

// lineBreaks are those of YAML 1.1.
const lineBreaks = "\n\r\u0085\u2028\u2029"

// command is the one whose flags a file has.
const command = "serve"

// A file is a configuration file that was read, with all its keys known and each
// value usable by itself.
type file struct {
	path   string
	lines  map[string]int // of each key
	values map[string]any // of each key: a string, or a list of them
}

// readFile reads and checks a file. The error has all that is wrong with it.
func readFile(path string, named Origin) (*file, error) {
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
	try, err := newTrial()
	if err != nil {
		return nil, err
	}
	return parseFile(path, text, named, try)
}

// parseFile checks the text of a file.
func parseFile(path string, text []byte, named Origin, try *trial) (*file, error) {
	bad := func(err error, remedy string) error {
		return &Error{Origin: named, Option: "config", Value: path, Err: err, Remedy: remedy}
	}
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(&doc); err != nil && !errors.Is(err, io.EOF) { // it is empty
		return nil, bad(err, "`tailfin config example` prints a file of the right form")
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil && len(second.Content) > 0 {
		return nil, &Error{Origin: Origin{File: path, Line: lineIn(text, second.Content[0].Line)}, Err: errors.New("a second document begins"), Remedy: "leave the --- before it out: all keys belong into one"}
	} else if err != nil && !errors.Is(err, io.EOF) {
		return nil, bad(err, "`tailfin config example` prints a file of the right form")
	}
	c := &file{path: path, lines: make(map[string]int), values: make(map[string]any)}
	// A file can be empty, also behind the mark of a document.
	if len(doc.Content) > 0 && (doc.Content[0].Tag != "!!null" || doc.Content[0].Value != "") {
		doc.Content[0].Line = lineIn(text, doc.Content[0].Line)
		if err := c.check(doc.Content[0], try); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// lineIn is a line of the file: yaml.v3 has what is empty at its end in the line behind.
func lineIn(text []byte, line int) int {
	lines := 1
	for _, r := range string(text) {
		if strings.ContainsRune(lineBreaks, r) {
			lines++
		}
	}
	return min(line, lines)
}

// Resolve gives kong the text of a value, as a flag would have it. It is the one that
// was checked: what YAML makes of it, such as a number or a date, kong may take
// otherwise or not at all.
func (c *file) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	return c.values[flag.Name], nil
}

// check goes through the keys.
func (c *file) check(root *yaml.Node, try *trial) error {
	if root.Kind != yaml.MappingNode {
		return &Error{Origin: Origin{File: c.path, Line: root.Line}, Option: "", Value: "",
			Err: errors.New("this is no list of keys and values"), Remedy: "`tailfin config example` prints a file of the right form"}
	}
	var errs []error
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if err := c.checkKey(key, value, try); err != nil {
			errs = append(errs, err)
		}
		if len(errs) == maxErrors {
			break // enough to begin with
		}
	}
	return join(errs)
}

func (c *file) checkKey(key, value *yaml.Node, try *trial) error {
	bad := func(err error, remedy string) error {
		return &Error{Origin: Origin{File: c.path, Line: key.Line}, Option: shown(key.Value), Value: shown(text(value)), Err: err, Remedy: remedy}
	}
	flag := try.flags[key.Value]
	switch {
	case flag == nil || key.Kind != yaml.ScalarNode: // an alias has the name of an anchor
		remedy := "`tailfin serve --help` lists the keys, as flags"
		if near := nearest(key.Value, try.flags); near != "" {
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
		if v.Style&yaml.TaggedStyle != 0 {
			return bad(fmt.Errorf("the tag %s says how to read it", shown(v.Tag)), "leave the tag out, and put quotes around the value if need be")
		}
		if err := try.value(flag, v.Value); err != nil {
			return bad(err, placeholder(flag))
		}
	}
	c.lines[key.Value] = key.Line
	if value.Kind == yaml.ScalarNode {
		c.values[key.Value] = value.Value
		return nil
	}
	list := make([]any, 0, len(values))
	for _, v := range values {
		list = append(list, v.Value)
	}
	c.values[key.Value] = list
	return nil
}

// shown is so much of a text as an error has.
func shown(text string) string {
	if len(text) <= maxShown {
		return text
	}
	n := maxShown
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
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
	if len(name) > maxShown {
		return "" // no option is so long
	}
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
