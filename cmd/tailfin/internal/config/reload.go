package config

import (
	"fmt"
	"reflect"
	"slices"
)

// A Change is an option that a new configuration has another value for.
type Change struct {
	Option string
	From   string
	To     string
	Live   bool // takes effect without a restart
}

// Diff lists what is different in next, in the order of the fields.
func (s *Serve) Diff(next *Serve) []Change {
	var list []Change
	from, to := reflect.ValueOf(*s), reflect.ValueOf(*next)
	for i, f := range reflect.VisibleFields(from.Type()) {
		a, b := from.Field(i).Interface(), to.Field(i).Interface()
		if reflect.DeepEqual(a, b) {
			continue
		}
		_, live := f.Tag.Lookup("reload")
		change := Change{Option: optionOf(f), From: fmt.Sprint(a), To: fmt.Sprint(b), Live: live}
		switch {
		case secret(f):
			change.From, change.To = redacted(change.From), redacted(change.To)
		case change.Option == "sink":
			change.From, change.To = s.SinkName(), next.SinkName()
		}
		list = append(list, change)
	}
	return list
}

// Adopt takes over from next what needs no restart.
func (s *Serve) Adopt(next *Serve) {
	to, from := reflect.ValueOf(s).Elem(), reflect.ValueOf(*next)
	for i, f := range reflect.VisibleFields(from.Type()) {
		if _, live := f.Tag.Lookup("reload"); live {
			to.Field(i).Set(from.Field(i))
		}
	}
}

// optionOf is the name of a field's flag.
func optionOf(f reflect.StructField) string {
	if name := f.Tag.Get("name"); name != "" {
		return name
	}
	return dashed(f.Name)
}

// Options lists the names of all options, in the order of the fields.
func Options() []string {
	var list []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Serve]()) {
		list = append(list, optionOf(f))
	}
	return slices.Clip(list)
}
