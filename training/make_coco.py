"""Turn a folder of images with Pascal VOC boxes into one that the command line reads: images/ and one COCO file.

    python training/make_coco.py --data DIR --out DIR [--limit N]

DIR holds `images/` and `annotations_voc/*.xml`, as BCCD (blood cells, MIT) comes. Boxes without extent are left out.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from xml.etree import ElementTree


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="only the first N images")
    args = parser.parse_args()
    (args.out / "images").mkdir(parents=True, exist_ok=True)
    names: dict[str, int] = {}
    images, annotations = [], []
    for i, path in enumerate(sorted((args.data / "annotations_voc").glob("*.xml"))[: args.limit]):
        image = next((args.data / "images").glob(f"{path.stem}.*"))
        shutil.copy(image, args.out / "images")
        images.append({"id": i, "file_name": image.name})
        for thing in ElementTree.parse(path).iter("object"):
            x1, y1, x2, y2 = (float(thing.findtext(f"bndbox/{k}", "0")) for k in ("xmin", "ymin", "xmax", "ymax"))
            if x2 > x1 and y2 > y1:
                label = names.setdefault(thing.findtext("name", ""), len(names))
                box = [x1, y1, x2 - x1, y2 - y1]
                annotations.append({"id": len(annotations), "image_id": i, "category_id": label, "bbox": box})
    categories = [{"id": i, "name": name} for name, i in names.items()]
    coco = {"images": images, "categories": categories, "annotations": annotations}
    (args.out / "coco.json").write_text(json.dumps(coco), encoding="utf-8")
    print(f"{len(images)} images, {len(annotations)} boxes: {', '.join(names)}")


if __name__ == "__main__":
    main()
