import CoreGraphics

/// An upright photo as `Captioner` takes it, on white where it is transparent: RGB bytes of a square.
func pixels(of photo: CGImage, side: Int) -> [UInt8]? {
    let (width, height) = (photo.width, photo.height)
    let space = CGColorSpace(name: CGColorSpace.sRGB)!
    guard
        let context = CGContext(
            data: nil, width: width, height: height, bitsPerComponent: 8, bytesPerRow: 4 * width,
            space: space, bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue
        )
    else { return nil }
    let whole = CGRect(x: 0, y: 0, width: width, height: height)
    context.setFillColor(CGColor(red: 1, green: 1, blue: 1, alpha: 1))
    context.fill(whole)
    context.draw(photo, in: whole)
    guard let data = context.data else { return nil }
    let rgbx = data.bindMemory(to: UInt8.self, capacity: 4 * width * height)
    let rgb = (0..<3 * width * height).map { rgbx[$0 / 3 * 4 + $0 % 3] }
    return squash(rgb, width: width, height: height, side: side)
}

/// RGB bytes [height, width, 3] → [side, side, 3], smoothed as in training.
func squash(_ rgb: [UInt8], width: Int, height: Int, side: Int) -> [UInt8] {
    resample(resample(rgb, from: width, to: side, inner: 3), from: height, to: side, inner: 3 * side)
}

/// The middle axis of [outer, from, inner] in another size, by a triangle over the source pixels of each.
private func resample(_ source: [UInt8], from: Int, to: Int, inner: Int) -> [UInt8] {
    let outer = source.count / (from * inner)
    var result = [UInt8](repeating: 0, count: outer * to * inner)
    let scale = Double(from) / Double(to)
    let reach = max(scale, 1)
    for i in 0..<to {
        let center = (Double(i) + 0.5) * scale
        let first = max(Int(center - reach + 0.5), 0)
        let last = min(Int(center + reach + 0.5), from)
        let weights = (first..<last).map { max(0, 1 - abs(Double($0) + 0.5 - center) / reach) }
        let total = weights.reduce(0, +)
        for o in 0..<outer {
            for n in 0..<inner {
                var sum = 0.0
                for k in weights.indices {
                    sum += weights[k] * Double(source[(o * from + first + k) * inner + n])
                }
                result[(o * to + i) * inner + n] = UInt8(sum / total + 0.5)
            }
        }
    }
    return result
}
