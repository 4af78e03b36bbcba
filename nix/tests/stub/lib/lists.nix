lib:
let
  inherit (builtins)
    concatLists
    elem
    elemAt
    filter
    foldl'
    genList
    isList
    length
    ;
in
{
  inherit (builtins)
    all
    any
    catAttrs
    concatLists
    concatMap
    elem
    elemAt
    filter
    foldl'
    genList
    groupBy
    head
    isList
    length
    map
    partition
    sort
    tail
    ;

  singleton = x: [ x ];
  optional = condition: x: if condition then [ x ] else [ ];
  optionals = condition: xs: if condition then xs else [ ];
  toList = x: if isList x then x else [ x ];
  last = xs: elemAt xs (length xs - 1);
  init = xs: lib.take (length xs - 1) xs;
  take = count: xs: genList (elemAt xs) (lib.min count (length xs));
  drop = count: xs: genList (i: elemAt xs (i + count)) (lib.max 0 (length xs - count));
  sublist =
    start: count: xs:
    lib.take count (lib.drop start xs);
  range = first: last: if first > last then [ ] else genList (n: first + n) (last - first + 1);
  replicate = count: x: genList (_: x) count;
  reverseList = xs: genList (i: elemAt xs (length xs - i - 1)) (length xs);
  remove = x: filter (y: y != x);
  subtractLists = without: filter (x: !elem x without);
  intersectLists = with': filter (x: elem x with');
  unique = foldl' (seen: x: if elem x seen then seen else seen ++ [ x ]) [ ];
  flatten = x: if isList x then builtins.concatMap lib.flatten x else [ x ];
  count = predicate: xs: length (filter predicate xs);
  imap0 = f: xs: genList (i: f i (elemAt xs i)) (length xs);
  imap1 = f: xs: genList (i: f (i + 1) (elemAt xs i)) (length xs);
  zipListsWith =
    f: xs: ys:
    genList (i: f (elemAt xs i) (elemAt ys i)) (lib.min (length xs) (length ys));
  findFirst =
    predicate: default: xs:
    let
      found = filter predicate xs;
    in
    if found == [ ] then default else builtins.head found;
  foldr =
    f: last: xs:
    let
      from = i: if i == length xs then last else f (elemAt xs i) (from (i + 1));
    in
    from 0;
  foldl = foldl';
  forEach = xs: f: map f xs;
  mutuallyExclusive = xs: ys: !builtins.any (x: elem x ys) xs;
  concat = xs: ys: xs ++ ys;
  # In the order of their keys; of equal keys the first stays.
  sortOn = key: builtins.sort (a: b: key a < key b);
  allUnique = xs: length (lib.unique xs) == length xs;
  crossLists = f: foldl' (fs: args: concatLists (map (f: map f args) fs)) [ f ];
}
