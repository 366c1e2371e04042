package config

import (
	"bytes"
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode"

	"gopkg.in/yaml.v3"
)

// dashed is a field's name as kong makes a flag of it: MaxBody is max-body.
func dashed(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// Effective is the configuration as keys and values, without credentials.
func (s *Serve) Effective() map[string]any {
	m := make(map[string]any)
	v := reflect.ValueOf(*s)
	for i, f := range reflect.VisibleFields(v.Type()) {
		m[optionOf(f)] = plain(v.Field(i).Interface())
		if secret(f) {
			m[optionOf(f)] = redacted(fmt.Sprint(v.Field(i).Interface()))
		}
	}
	m["sink"] = s.SinkName()
	return m
}

// YAML is the configuration as a file that serve --config takes, but for credentials. It
// does not name the file that it came from: none can name another.
func (s *Serve) YAML() ([]byte, error) {
	m := s.Effective()
	delete(m, "config")
	for key, value := range m {
		m[key] = onOneLine(reflect.ValueOf(value))
	}
	return yaml.Marshal(m)
}

// onOneLine quotes text that has line breaks: in lists yaml.v3 (v3.0.1) writes blocks that it
// does not read again.
func onOneLine(v reflect.Value) any {
	switch v.Kind() {
	case reflect.String:
		if strings.ContainsAny(v.String(), lineBreaks) {
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: v.String(), Style: yaml.DoubleQuotedStyle}
		}
	case reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = onOneLine(v.Index(i))
		}
		return list
	}
	return v.Interface()
}

// secret tells an option whose value is shown to nobody.
func secret(f reflect.StructField) bool {
	_, ok := f.Tag.Lookup("secret")
	return ok
}

// redacted stands for a secret, if there is one.
func redacted(value string) string {
	if value == "" {
		return ""
	}
	return "(not shown)"
}

// plain is a value as YAML and JSON write it best.
func plain(value any) any {
	switch v := value.(type) {
	case time.Duration:
		return v.String()
	case encoding.TextMarshaler:
		text, err := v.MarshalText()
		if err != nil {
			return fmt.Sprint(v)
		}
		return string(text)
	}
	return value
}

// Example is a configuration file that has every key with its default, explained.
func Example() ([]byte, error) {
	var scratch app
	parser, _, err := newParser(&scratch)
	if err != nil {
		return nil, err
	}
	if _, err := parser.Parse([]string{command}); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.WriteString("# Configuration of tailfin serve. Each key is a flag of `tailfin serve --help`; these are the\n" +
		"# defaults. A flag outdoes the environment (TAILFIN_MAX_BODY=1GiB), which outdoes this file.\n")
	group := ""
	values := scratch.Serve.Effective()
	for _, f := range parser.Model.Children[0].Flags {
		if f.Name == "help" || f.Name == "config" {
			continue
		}
		if f.Group != nil && f.Group.Title != group {
			group = f.Group.Title
			fmt.Fprintf(&out, "\n## %s\n", group)
		}
		var value yaml.Node
		if err := value.Encode(values[f.Name]); err != nil {
			return nil, err
		}
		value.Style = yaml.FlowStyle // lists on one line
		line, err := yaml.Marshal(map[string]*yaml.Node{f.Name: &value})
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&out, "\n# %s\n#%s", f.Help, line)
	}
	return out.Bytes(), nil
}
