# A body with patches applied: to a text, or to the inside of an archive. The same inputs give the same bytes.
{
  runCommand,
  gnutar,
  gzip,
  bzip2,
  xz,
  zstd,
  unzip,
  zip,
  patch,
}:
{
  # The body.
  file,
  # Patches, applied in this order.
  patches,
  # The URL, for messages.
  url,
  # The name of the result.
  name,
}:
runCommand name
  {
    body = file;
    inherit patches url;
    nativeBuildInputs = [
      gnutar
      gzip
      bzip2
      xz
      zstd
      unzip
      zip
      patch
    ];
    preferLocalBuild = true;
  }
  ''
    source ${./patch-body.sh}
    patchBody
  ''
