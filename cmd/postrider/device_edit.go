package main

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/registry"
	"github.com/postrider/postrider/shared/registry/document"
)

func newDeviceEdit(f *flags) *cobra.Command {
	var anyNetwork, dry bool
	var reason, ticket string
	c := &cobra.Command{
		Use:   "edit NAME KEY=VALUE...",
		Short: "Change what is registered of a device",
		Long: `Change what is registered of a device. A list is written with commas; += adds to
it and -= takes away. Nothing after = empties.

  postrider device edit prn-3.chem.campus.test owner=physics contacts+=b@campus.test
  postrider device edit prn-3.chem.campus.test limits.size=10MB quirks.legacy_tls=true exempt=

Keys: ` + strings.Join(editable(), " "),
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if anyNetwork && reason == "" {
				return errNeedsReason
			}
			now := time.Now().UTC()
			return withDesk(cmd.Context(), f, func(k *desk) error {
				found, err := findDevice(k.snapshot, args[0])
				if err != nil {
					return err
				}
				d, err := edited(found, args[1:], now)
				if err == nil {
					err = checkDevice(d, wildcards(f))
				}
				if err != nil {
					return err
				}
				fields, err := document.Fields(found, d)
				if err != nil {
					return err
				}
				if moves(fields) {
					if err := checkPlace(k.snapshot, d, anyNetwork); err != nil {
						return err
					}
				}
				if err := k.checkEdit(found, d); err != nil {
					return err
				}
				d.Stamp(registry.Change{By: actor(), Reason: reason, Ticket: ticket, At: now})
				if !dry && len(fields) > 0 {
					if err := k.store.Put(cmd.Context(), d); err != nil {
						return storeError(err)
					}
				}
				printFields(cmd, d.Name, fields)
				if slices.ContainsFunc(fields, func(f document.Field) bool { return f.Name == "contacts" }) {
					adviseContacts(cmd.ErrOrStderr(), k.snapshot, d)
				}
				return nil
			})
		},
	}
	c.Flags().BoolVar(&dry, "dry-run", false, "show what would change, change nothing")
	placeFlags(c, &anyNetwork, &reason, &ticket)
	return c
}

func printFields(cmd *cobra.Command, name string, fields []document.Field) {
	if len(fields) == 0 {
		fmt.Fprintf(cmd.OutOrStdout(), "%s is so already\n", name)
	}
	for _, f := range fields {
		fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", name, visible(f.String()))
	}
}

// moves reports changes after which the networks of a device matter anew.
func moves(fields []document.Field) bool {
	return slices.ContainsFunc(fields, func(f document.Field) bool { return f.Name == "addresses" || f.Name == "proof" })
}

// edited is a device with other values.
func edited(found *registry.Device, settings []string, now time.Time) (*registry.Device, error) {
	d, err := registry.Clone(found)
	if err != nil {
		return nil, err
	}
	for _, s := range settings {
		key, value, ok := strings.Cut(s, "=")
		if !ok {
			return nil, usage("%q is not KEY=VALUE", s)
		}
		op := ""
		if bare := strings.TrimRight(key, "+-"); len(key) == len(bare)+1 {
			key, op = bare, key[len(bare):]
		}
		if !slices.Contains(editable(), key) {
			return nil, usage("%q: unknown key; keys: %s", key, strings.Join(editable(), " "))
		}
		if err := set(reflect.ValueOf(d).Elem(), key, op, value, now); err != nil {
			return nil, usage("%s: %w", key, err)
		}
	}
	keepStanding(d, found)
	return d, nil
}

// keepStanding leaves an address that stays as it was, suspended or not.
func keepStanding(d, found *registry.Device) {
	for i, a := range d.Addresses {
		for _, had := range found.Addresses {
			if had.Range == a.Range {
				d.Addresses[i] = had
			}
		}
	}
}

// kept are the fields of a device that have commands of their own, or none.
var kept = []string{"name", "state", "suspension", "approver", "decision", "dates"}

// editable are the keys of a device, as the files name them.
func editable() []string {
	var keys []string
	var walk func(path string, t reflect.Type)
	walk = func(path string, t reflect.Type) {
		for i := range t.NumField() {
			f := t.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" || path == "" && slices.Contains(kept, name) {
				continue
			}
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
				keys = append(keys, path+name)
			}
			if inner.Kind() == reflect.Struct && inner != reflect.TypeFor[time.Time]() {
				walk(path+name+".", inner)
				continue
			}
			keys = append(keys, path+name)
		}
	}
	walk("", reflect.TypeFor[registry.Device]())
	return keys
}

// set gives the field of that path a value.
func set(v reflect.Value, path, op, value string, now time.Time) error {
	name, rest, deeper := strings.Cut(path, ".")
	field := v.Field(slices.IndexFunc(reflect.VisibleFields(v.Type()), func(f reflect.StructField) bool {
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		return len(f.Index) == 1 && tag == name
	}))
	if deeper {
		if field.Kind() == reflect.Pointer {
			if field.IsNil() {
				field.Set(reflect.New(field.Type().Elem()))
			}
			field = field.Elem()
		}
		return set(field, rest, op, value, now)
	}
	if op != "" && field.Kind() != reflect.Slice {
		return fmt.Errorf("%s= is for lists", op)
	}
	if value == "" && op == "" {
		field.SetZero()
		return nil
	}
	return assign(field, name, op, value, now)
}

func assign(field reflect.Value, name, op, value string, now time.Time) (err error) {
	switch to := field.Addr().Interface().(type) {
	case *[]string:
		*to = combined(*to, op, strings.Split(value, ","))
	case *[]registry.Address:
		*to, err = addressList(*to, op, value)
	case *time.Time:
		*to, err = moment(value, now)
	case *bool:
		*to, err = strconv.ParseBool(value)
		if err != nil {
			err = fmt.Errorf("%q is neither true nor false", value)
		}
	case *int, *int64:
		var n config.Size
		n, err = number(name, value)
		field.SetInt(int64(n))
	default:
		if field.Kind() != reflect.String {
			return fmt.Errorf("it has several values (such as %s.reason); empty takes all away", name)
		}
		field.SetString(value)
	}
	return err
}

// number reads a count, or a size with its unit.
func number(name, value string) (config.Size, error) {
	if name == "size" {
		return config.ParseSize(value)
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", value)
	}
	return config.Size(n), nil
}

// combined is a list with others added, taken away, or instead of it.
func combined[T cmp.Ordered](list []T, op string, values []T) []T {
	switch op {
	case "+":
		for _, v := range values {
			if !slices.Contains(list, v) {
				list = append(list, v)
			}
		}
		return list
	case "-":
		return slices.DeleteFunc(list, func(v T) bool { return slices.Contains(values, v) })
	}
	return values
}

func addressList(list []registry.Address, op, value string) ([]registry.Address, error) {
	var names, given []string
	for _, a := range list {
		names = append(names, a.String())
	}
	for s := range strings.SplitSeq(value, ",") {
		p, err := registry.ParseRange(s)
		if err != nil {
			return nil, err
		}
		given = append(given, registry.Address{Range: p}.String())
	}
	out := []registry.Address{}
	for _, s := range combined(names, op, given) {
		var a registry.Address
		if err := a.UnmarshalText([]byte(s)); err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}
